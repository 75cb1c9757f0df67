-- Append items (behind the named arguments) to a partition of a queue, all of them or none.
-- Returns OK (KEPT, if the queue is not ephemeral), also if this write did so when it was sent before; FULL; MANY: the
-- queue has too many partitions; GONE: there is no such queue. Only OK and KEPT have written anything.
local object, items, wrote = unpack(KEYS)
local partition, number, remember, ttl, size, most_items, most_bytes, most_partitions = unpack(ARGV, 1, 8)
local FIRST = 9
local MIB = 1048576 -- no item is larger
local count = #ARGV - FIRST + 1
local field = 'p:' .. partition
local life, is_known = unpack(redis.call('HMGET', object, 'life', field))
if not life then return 'GONE' end
local had = redis.call('LLEN', items)
local is_full = had + count > tonumber(most_items)
if not is_full and had * MIB + size > tonumber(most_bytes) and had > 0 then
  is_full = redis.call('MEMORY', 'USAGE', items, 'SAMPLES', 0) + size > tonumber(most_bytes)
end
if is_full then return redis.call('GET', wrote) == number and 'OK' or 'FULL' end
if not is_known and redis.call('HLEN', object) - 2 >= tonumber(most_partitions) then return 'MANY' end
if redis.call('SET', wrote, number, 'PX', remember, 'GET') == number then return 'OK' end
for at = FIRST, #ARGV, 4000 do
  redis.call('RPUSH', items, unpack(ARGV, at, math.min(at + 3999, #ARGV)))
end
local done = 'KEPT'
if life == '0' then
  redis.call('PEXPIRE', items, ttl)
  if is_known then return done end
  redis.call('HSET', object, field, '')
else
  done = 'OK'
  -- An ephemeral queue's owner prolongs this, up to what is noted here.
  redis.call('PEXPIRE', items, math.min(ttl, life))
  redis.call('HSET', object, field, redis.call('TIME')[1] * 1000 + ttl)
  if is_known then return done end
end
-- As fast as new partitions come, those that are empty are forgotten.
for _, other in ipairs(redis.call('HRANDFIELD', object, 3)) do
  local name = other:match('^p:(.*)$')
  if name and redis.call('EXISTS', object .. ':items:' .. name) == 0 then
    redis.call('HDEL', object, other)
  end
end
return done

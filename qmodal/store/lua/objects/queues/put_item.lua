-- Append a small item to a partition of a queue that is not ephemeral, if it has been put into before.
-- Returns OK, also if this write did so when it was sent before. Anything else: nothing is written, and put_items
-- says why not. What was done in vain is undone, so that what is usual needs no look before.
local object, items, wrote = unpack(KEYS)
local field, remember, most_items, most_bytes, ttl, number, item = unpack(ARGV)
local MANY = 64 -- of the largest items so many have room
if redis.call('HINCRBY', object, field, 1) == 1 then
  redis.call('HDEL', object, field)
  return 'UNKNOWN'
end
local length = redis.call('RPUSH', items, item)
local is_there = redis.call('SET', wrote, number, 'PX', remember, 'GET') == number
local is_full = length > tonumber(most_items)
-- Small items make a partition a little too large until the next look.
if length > MANY and length % 16 == 0 then
  is_full = is_full or redis.call('MEMORY', 'USAGE', items, 'SAMPLES', 0) > tonumber(most_bytes)
end
if not is_there and not is_full then
  redis.call('PEXPIRE', items, ttl)
  return 'OK'
end
redis.call('RPOP', items)
redis.call('HINCRBY', object, field, -1)
if is_there then return 'OK' end
redis.call('DEL', wrote)
return 'FULL'

-- Accept inputs of a call: record them and append them to their pool's stream.
-- Returns OK; GAP: an earlier chunk is missing; TAKEN: the id belongs to another call;
-- POOL: the pool is not known; BLOB: a payload did not arrive. Only OK has written anything.
-- A cancelled call takes no more inputs and says OK: whoever reads its outputs is told.
-- include: join
local call, outputs, pool, inputs, again, active, marker = unpack(KEYS)
local id, pool_id, group, channel, digest, first, total, ttl, parent, now = unpack(ARGV)
local count = #ARGV - 10
local known = redis.call('HMGET', call, 'digest', 'submitted', 'state', 'from')
local submitted = tonumber(known[2] or 0)
if known[1] and known[1] ~= digest then return 'TAKEN' end
if known[3] == 'cancelled' or count > 0 and submitted >= first + count then return 'OK' end
if submitted ~= tonumber(first) then return 'GAP' end
if redis.call('HEXISTS', pool, 'spec') == 0 then return 'POOL' end
for n = 8, #KEYS do
  if redis.call('EXISTS', KEYS[n]) == 0 then return 'BLOB' end
end
redis.call('HSET', call, 'submitted', first + count)
if total ~= '' then redis.call('HSET', call, 'total', total) end
if not known[1] then
  redis.call('HSET', call, 'pool', pool_id, 'digest', digest, 'settled', 0, 'state', 'open',
    'ttl', ttl, 'parent', parent, 'created', now)
end
if count == 0 then
  if not known[1] then redis.call('PEXPIRE', call, ttl) end
  return 'OK'
end
for n = 8, #KEYS do redis.call('PERSIST', KEYS[n]) end
if known[1] then redis.call('PERSIST', call) redis.call('PERSIST', outputs) end
local joined, from, to = join(active, pool, inputs, again, pool_id, group), nil, nil
for n = 1, count do
  to = redis.call('XADD', inputs, '*', 'e', ARGV[10 + n], 'c', id, 'i', first + n - 1)
  from = from or to
end
redis.call('HSET', call, 'from', known[4] or from, 'to', to)
redis.call('HINCRBY', pool, 'inflight', count)
redis.call('HINCRBY', pool, 'submitted', count)
local quiet = redis.call('SET', marker, 1, 'NX', 'PX', 50)
if joined or quiet then redis.call('PUBLISH', channel, pool_id) end
return 'OK'

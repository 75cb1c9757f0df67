-- Accept inputs of a call: append them to their pool's stream and record them.
-- Returns OK; GAP: an earlier chunk is missing; TAKEN: the id belongs to another call;
-- POOL: the pool is not known; BLOB: a payload did not arrive. Only OK has written anything.
-- A cancelled call takes no more inputs and says OK: whoever reads its outputs is told.
-- include: tally, join, append, announce
local call, pool, active, marker = unpack(KEYS)
local id, pool_id, group, channel, digest, first, total, ttl, parent, now, count, sizes = unpack(ARGV)
local inputs, joined, from, to = pool .. ':inputs', false, nil, nil
count, first = tonumber(count), tonumber(first)
local known = redis.call('HMGET', call, 'digest', 'submitted', 'state')
local submitted = tonumber(known[2] or 0)
if known[1] and known[1] ~= digest then return 'TAKEN' end
if known[3] == 'cancelled' or count > 0 and submitted >= first + count then
  -- Another producer may have submitted these, not knowing that they are the last.
  if total ~= '' and known[3] == 'open' and submitted == first + count then redis.call('HSET', call, 'total', total) end
  return 'OK'
end
if submitted ~= first then return 'GAP' end
local is_active = redis.call('ZSCORE', active, pool_id) -- and so known
if not is_active and redis.call('HEXISTS', pool, 'spec') == 0 then return 'POOL' end
for n = 5, #KEYS do if redis.call('EXISTS', KEYS[n]) == 0 then return 'BLOB' end end
if count > 0 and not is_active then joined = join(active, pool, inputs, pool .. ':again', pool_id, group) end
if count > 0 then from, to = append(inputs, id, first, sizes, {unpack(ARGV, 13)}) end
local more = total == '' and {} or {'total', total}
if count > 0 and (known[1] or to ~= from) then more[#more + 1], more[#more + 2] = 'to', to end
if parent ~= '' then more[#more + 1], more[#more + 2] = 'parent', parent end
if known[1] then
  redis.call('HSET', call, 'submitted', first + count, unpack(more))
else
  redis.call('HSET', call, 'pool', pool_id, 'digest', digest, 'submitted', count, 'state', 'open', 'ttl', ttl,
    'created', now, 'from', from or '0-1', unpack(more))
  if count == 0 then redis.call('PEXPIRE', call, ttl) end
end
if count == 0 then return 'OK' end
for n = 5, #KEYS do redis.call('PERSIST', KEYS[n]) end
if known[1] then redis.call('PERSIST', call) redis.call('PERSIST', call .. ':outputs') end
local inflight = tally(pool, 'inflight', count)
tally(pool, 'submitted', count)
announce(pool, marker, channel, pool_id, inflight, joined)
return 'OK'

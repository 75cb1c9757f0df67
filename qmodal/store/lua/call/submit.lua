-- Accept inputs of a call: append them to their pool's stream and record them. Takes the keys of payloads
-- that are stored apart behind the named ones, and the envelopes behind the named arguments.
-- Returns OK; GAP: an earlier chunk is missing; TAKEN: the id belongs to another call;
-- POOL: the pool is not known; BLOB: a payload did not arrive. Only OK has written anything.
-- A cancelled call takes no more inputs and says OK: whoever reads its outputs is told.
-- include: tally, join, append, announce
local call, pool, active, marker = unpack(KEYS)
local id, pool_id, group, channel, digest, first, total, ttl, parent, now, count, sizes, reply_to = unpack(ARGV)
local FIRST_BLOB = 5
local FIRST_ENVELOPE = 14
local inputs = pool .. ':inputs'
count = tonumber(count)
local till = first + count
local known, recorded, state = unpack(redis.call('HMGET', call, 'digest', 'submitted', 'state'))
local submitted = tonumber(recorded or 0)
if known and known ~= digest then return 'TAKEN' end
if state == 'cancelled' or count > 0 and submitted >= till then
  -- Another producer may have submitted these, not knowing that they are the last.
  if total ~= '' and state == 'open' and submitted == till then redis.call('HSET', call, 'total', total) end
  return 'OK'
end
if submitted ~= tonumber(first) then return 'GAP' end
local is_active = redis.call('ZSCORE', active, pool_id) -- and so known
if not is_active and redis.call('HEXISTS', pool, 'spec') == 0 then return 'POOL' end
for n = FIRST_BLOB, #KEYS do
  if redis.call('EXISTS', KEYS[n]) == 0 then return 'BLOB' end
end
local joined = false
if count > 0 and not is_active then joined = join(active, pool, inputs, pool .. ':again', pool_id, group) end
local from, to
if count > 0 then from, to = append(inputs, id, first, sizes, {unpack(ARGV, FIRST_ENVELOPE)}) end
local more = {}
local function also(name, value)
  more[#more + 1] = name
  more[#more + 1] = value
end
if total ~= '' then also('total', total) end
if count > 0 and (known or to ~= from) then also('to', to) end
if parent ~= '' then also('parent', parent) end
if reply_to ~= '' then also('reply_to', reply_to) end
if known then
  redis.call('HSET', call, 'submitted', till, unpack(more))
else
  redis.call('HSET', call, 'pool', pool_id, 'digest', digest, 'submitted', count, 'state', 'open', 'ttl', ttl,
    'created', now, 'from', from or '0-1', unpack(more))
end
if count == 0 then
  if not known then redis.call('PEXPIRE', call, ttl) end
  return 'OK'
end
for n = FIRST_BLOB, #KEYS do redis.call('PERSIST', KEYS[n]) end
if known then
  redis.call('PERSIST', call)
  redis.call('PERSIST', call .. ':outputs')
end
local inflight = tally(pool, 'inflight', count)
tally(pool, 'submitted', count)
announce(pool, marker, channel, pool_id, inflight, joined)
return 'OK'

-- Accept new calls of one input each for one pool, as **submit** does one by one. Takes the keys of the calls behind
-- the named ones, and four arguments a call: its id, digest, time and envelope. The named ones are for all of them:
-- `ttl` is the lifetime of their results, `reply_to` names the reply stream that their callers read (or is '').
-- Returns for each OK, or TAKEN: the id belongs to another call; POOL for all if the pool is not known.
-- include: tally, join, announce
local pool, active, marker = unpack(KEYS)
local pool_id, group, channel, ttl, reply_to = unpack(ARGV)
local inputs = pool .. ':inputs'
local is_active = redis.call('ZSCORE', active, pool_id) -- and so known
if not is_active and redis.call('HEXISTS', pool, 'spec') == 0 then return 'POOL' end
local also = reply_to ~= '' and {'reply_to', reply_to} or {}
local replies = {}
local joined = false
local count = 0
for n = 1, #KEYS - 3 do
  local id, digest, now, envelope = unpack(ARGV, 4 * n + 2, 4 * n + 5)
  local call = KEYS[3 + n]
  -- What somebody else has put there must not stop the others.
  local known = redis.pcall('HGET', call, 'digest')
  replies[n] = (not known or known == digest) and 'OK' or 'TAKEN'
  if not known then
    if not is_active then
      joined = join(active, pool, inputs, pool .. ':again', pool_id, group)
      is_active = true
    end
    local entry = redis.call('XADD', inputs, '*', 'e', envelope, 'c', id, 'i', 0)
    redis.call('HSET', call, 'pool', pool_id, 'digest', digest, 'submitted', 1, 'state', 'open', 'ttl', ttl,
      'created', now, 'from', entry, 'total', 1, unpack(also))
    count = count + 1
  end
end
if count == 0 then return replies end
local inflight = tally(pool, 'inflight', count)
tally(pool, 'submitted', count)
announce(pool, marker, channel, pool_id, inflight, joined)
return replies

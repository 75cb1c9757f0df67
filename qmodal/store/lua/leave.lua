-- Make a pool inactive if nothing is in it: no entry, no reader, no retry that waits.
-- Its streams go (empty ones cost memory) and their last ids stay, so that no id comes twice.
-- Returns 1, or 0 if the pool is in use.
local pool, inputs, again, delayed, active = unpack(KEYS)
local pool_id, ttl = unpack(ARGV)
local last = {}
if redis.call('ZCARD', delayed) > 0 then return 0 end
for lane, stream in ipairs({inputs, again}) do
  if redis.call('XLEN', stream) > 0 then return 0 end
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if not groups.err and groups[1] and groups[1][4] > 0 then return 0 end
  local about = redis.pcall('XINFO', 'STREAM', stream)
  for n = 1, about.err and 0 or #about, 2 do
    if about[n] == 'last-generated-id' then last[lane] = about[n + 1] end
  end
end
redis.call('ZREM', active, pool_id)
redis.call('UNLINK', inputs, again)
redis.call('HSET', pool, 'inflight', 0, 'last_inputs', last[1] or '0-1', 'last_again', last[2] or '0-1')
redis.call('PEXPIRE', pool, ttl)
return 1

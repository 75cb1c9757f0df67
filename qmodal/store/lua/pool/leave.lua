-- Make a pool inactive if nothing is in it: no entry, no reader, no retry that waits.
-- Its streams go (empty ones cost memory) and their last ids stay, so that no id comes twice.
-- Returns 1, or 0 if the pool is in use.
local pool, inputs, again, delayed, active = unpack(KEYS)
local pool_id, group, ttl = unpack(ARGV)
-- Without this a repetition would forget the last ids: the streams are gone.
if not redis.call('ZSCORE', active, pool_id) then return 1 end
if redis.call('ZCARD', delayed) > 0 then return 0 end
local last = {}
for lane, stream in ipairs({inputs, again}) do
  if redis.call('XLEN', stream) > 0 then return 0 end
  local readers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
  if not readers.err and #readers > 0 then return 0 end
  local about = redis.pcall('XINFO', 'STREAM', stream)
  for n = 1, about.err and 0 or #about, 2 do
    if about[n] == 'last-generated-id' then
      last[#last + 1] = lane == 1 and 'last_inputs' or 'last_again'
      last[#last + 1] = about[n + 1]
    end
  end
end
redis.call('ZREM', active, pool_id)
redis.call('UNLINK', inputs, again)
redis.call('HSET', pool, 'inflight', 0, unpack(last))
redis.call('PEXPIRE', pool, ttl)
return 1

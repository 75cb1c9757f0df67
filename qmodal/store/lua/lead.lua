#!lua flags=allow-oom
-- Take or keep the leadership for `ttl` milliseconds.
-- Returns the epoch of the caller's leadership, or 0 if another process leads.
local leader, epochs = unpack(KEYS)
local id, ttl = unpack(ARGV)
local holder = redis.call('GET', leader)
if holder == id then
  redis.call('PEXPIRE', leader, ttl)
  return tonumber(redis.call('GET', epochs))
end
if holder then return 0 end
redis.call('SET', leader, id, 'PX', ttl)
return redis.call('INCR', epochs)

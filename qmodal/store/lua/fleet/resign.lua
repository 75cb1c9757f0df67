-- Give the leadership up, if the caller has it still. Returns 1, or 0 if it has not.
local leader = unpack(KEYS)
local id = unpack(ARGV)
if redis.call('GET', leader) ~= id then return 0 end
return redis.call('DEL', leader)

-- Give a lifetime to what belongs to a call, an app or a box that is gone. Returns 1 if it had none, else 0.
local part, owner = unpack(KEYS)
local ttl = unpack(ARGV)
if redis.call('EXISTS', owner) == 1 or redis.call('PTTL', part) ~= -1 then return 0 end
return redis.call('PEXPIRE', part, ttl)

-- Note fields (name, value, ...) with a pool, if it is known: a record that began with them would have
-- no lifetime, as nobody ever leaves a pool that was not opened. Returns 1, or 0 if it is not known.
local pool = unpack(KEYS)
if redis.call('HEXISTS', pool, 'spec') == 0 then return 0 end
redis.call('HSET', pool, unpack(ARGV))
return 1

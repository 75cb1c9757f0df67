#!lua flags=allow-oom
-- Note that whatever this consumer may have started never runs again, whoever reclaims it.
-- Returns 1, or 0 if the pool is not known.
local pool = unpack(KEYS)
local consumer = unpack(ARGV)
if redis.call('HEXISTS', pool, 'spec') == 0 then return 0 end
redis.call('HSET', pool, 'once:' .. consumer, 1)
return 1

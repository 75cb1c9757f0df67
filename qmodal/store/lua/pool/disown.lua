-- Take a pool off the list of active ones that has neither a record nor streams. Returns 1 if it was there, else 0.
local pool, inputs, again, active = unpack(KEYS)
local pool_id = unpack(ARGV)
if redis.call('EXISTS', pool, inputs, again) > 0 then return 0 end
return redis.call('ZREM', active, pool_id)

-- Keep autoscaler overrides of a pool; they live as long as their app.
-- Returns 1, or 0 if the app is gone.
local app, settings = unpack(KEYS)
local pool_id, packed, channel = unpack(ARGV)
local left = redis.call('PTTL', app)
if left == -2 then return 0 end
redis.call('HSET', settings, pool_id, packed)
if left > 0 then redis.call('PEXPIRE', settings, left) end
redis.call('PUBLISH', channel, pool_id)
return 1

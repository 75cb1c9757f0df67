-- Keep autoscaler overrides of a pool, if they were `before` until now; they live as long as their app.
-- Returns what they are now: `packed`, or what somebody else has made of them, or nothing if the app is gone.
local app, settings = unpack(KEYS)
local pool_id, before, packed, channel = unpack(ARGV)
local left = redis.call('PTTL', app)
if left == -2 then return false end
local now = redis.call('HGET', settings, pool_id) or ''
if now ~= before then return now end
redis.call('HSET', settings, pool_id, packed)
if left > 0 then redis.call('PEXPIRE', settings, left) end
redis.call('PUBLISH', channel, pool_id)
return packed

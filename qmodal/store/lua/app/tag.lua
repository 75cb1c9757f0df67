-- Replace what people have noted about an app. Returns 1, or 0 if it is gone: a record that this
-- brought back would stay for ever.
local app = unpack(KEYS)
local tags = unpack(ARGV)
if redis.call('EXISTS', app) == 0 then return 0 end
redis.call('HSET', app, 'tags', tags)
return 1

-- Stop an app: its name is free, its versions, settings, client, routes and notes of schedules go, its source
-- bundles go after `keep` seconds unless another app needs them, and its record after `ttl`. It never runs again.
-- Returns 1, or 0 if it is not known.
-- include: discard_code, discard_routes
local apps, app, stopped, settings, client, routes, schedules = unpack(KEYS)
local title, app_id, ttl, keep, code, route, channel = unpack(ARGV)
redis.call('UNLINK', settings, client, schedules) -- a first write that a full server allows
discard_routes(routes, route, {})
if redis.call('HGET', apps, title) == app_id then redis.call('HDEL', apps, title) end
if redis.call('EXISTS', app) == 0 then return 0 end
for number = 1, tonumber(redis.call('HGET', app, 'version') or 0) or 0 do
  redis.call('UNLINK', app .. ':version:' .. number)
end
local fields = redis.call('HGETALL', app)
for n = 1, #fields, 2 do
  if fields[n]:find('^code:') then discard_code(code .. fields[n + 1], app_id, keep) end
end
redis.call('HSET', app, 'state', 'stopped')
redis.call('EXPIRE', app, ttl)
redis.call('SETEX', stopped, ttl, app_id)
redis.call('PUBLISH', channel, '')
return 1

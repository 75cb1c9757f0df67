-- Publish version `number` of an app and make it the current one; a deployed app also takes its
-- name, and its autoscaler overrides end. Returns OK, or STALE if another deploy came first.
local apps, app, settings, version = unpack(KEYS)
local title, app_id, name, environment, state, number, text, ttl, now = unpack(ARGV)
if redis.call('HGET', app, 'version') == number and redis.call('GET', version) == text then
  return 'OK' -- the same request again: its first reply was lost
end
if tonumber(redis.call('HGET', app, 'version') or 0) ~= number - 1 then return 'STALE' end
local owner = redis.call('HGET', apps, title)
if state == 'deployed' and owner and owner ~= app_id then return 'STALE' end
redis.call('HSET', app, 'name', name, 'environment', environment, 'state', state,
  'version', number, 'at:' .. number, now)
redis.call('SET', version, text)
redis.call('DEL', settings)
if state == 'deployed' then
  redis.call('HSET', apps, title, app_id)
  redis.call('PERSIST', app)
else
  redis.call('PEXPIRE', app, ttl)
  redis.call('PEXPIRE', version, ttl)
end
return 'OK'

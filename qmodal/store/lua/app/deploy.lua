-- Publish version `number` of an app and make it the current one; a deployed app also takes its
-- name and keeps its source bundle, and its autoscaler overrides end. Containers of versions below
-- `least` (0: none) are to leave at once. Returns OK, or STALE if another deploy came first, or the
-- app was stopped meanwhile.
-- A deployed app also notes when that was, by the server's clock: its periods begin then.
-- include: keep_code, server_ms
local apps, app, settings, version, code, code_apps = unpack(KEYS)
local title, app_id, name, environment, state, number, text, ttl, now, least, digest = unpack(ARGV)
if redis.call('HGET', app, 'version') == number and redis.call('GET', version) == text then
  if state == 'deployed' then
    keep_code(app, code, code_apps, app_id, number, digest)
    redis.call('HSET', app, 'deployed', server_ms())
  end
  return 'OK' -- the same request again: its first reply was lost, or nothing has changed
end
local current, known_state = unpack(redis.call('HMGET', app, 'version', 'state'))
if tonumber(current or 0) ~= number - 1 or known_state == 'stopped' then return 'STALE' end
local owner = redis.call('HGET', apps, title)
if state == 'deployed' and owner and owner ~= app_id then
  -- One that has stopped, or is gone, may have kept the name through a loss of data.
  if redis.call('HGET', app:sub(1, -1 - #app_id) .. owner, 'state') == 'deployed' then return 'STALE' end
end
redis.call('HSET', app, 'name', name, 'environment', environment, 'state', state,
  'version', number, 'at:' .. number, now)
if least ~= '0' then redis.call('HSET', app, 'least', least) end
redis.call('SET', version, text)
redis.call('DEL', settings)
if state == 'deployed' then
  redis.call('HSET', apps, title, app_id)
  redis.call('HSET', app, 'deployed', server_ms())
  redis.call('PERSIST', app)
  keep_code(app, code, code_apps, app_id, number, digest)
else
  redis.call('PEXPIRE', app, ttl)
  redis.call('PEXPIRE', version, ttl)
end
return 'OK'

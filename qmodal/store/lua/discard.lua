-- An app that was stopped needs a source bundle no more: unless another deployed one does, it goes
-- after `ttl` seconds. Returns how many apps still need it.
local code, code_apps = unpack(KEYS)
local app_id, ttl = unpack(ARGV)
redis.call('SREM', code_apps, app_id)
local needed = redis.call('SCARD', code_apps)
if needed == 0 then redis.call('EXPIRE', code, ttl) end
return needed

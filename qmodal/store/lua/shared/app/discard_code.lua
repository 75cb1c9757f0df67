-- Forget that a stopped app needs a source bundle: unless another deployed one does, the bundle goes
-- after `ttl` seconds.
local function discard_code(code, app_id, ttl)
  redis.pcall('SREM', code .. ':apps', app_id)
  if redis.pcall('SCARD', code .. ':apps') == 0 then redis.call('EXPIRE', code, ttl) end
end

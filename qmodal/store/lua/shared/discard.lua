-- An app that was stopped needs a source bundle no more: unless another deployed one does, it goes
-- after `ttl` seconds.
local function discard(code, app_id, ttl)
  redis.pcall('SREM', code .. ':apps', app_id)
  if redis.pcall('SCARD', code .. ':apps') == 0 then redis.call('EXPIRE', code, ttl) end
end

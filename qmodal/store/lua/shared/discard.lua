-- An app that was stopped needs a source bundle no more: unless another deployed one does, it goes
-- after `ttl` seconds.
local function discard(code, app_id, ttl)
  redis.call('SREM', code .. ':apps', app_id)
  if redis.call('SCARD', code .. ':apps') == 0 then redis.call('EXPIRE', code, ttl) end
end

-- A pool is active exactly while its streams and groups exist. Entry ids go on from where the
-- deleted streams stopped: they are tokens, and a reused one would settle somebody else's input.
local function join(active, pool, inputs, again, pool_id, group)
  if redis.call('ZADD', active, 'NX', 0, pool_id) == 0 then return false end
  local last_ids = redis.call('HMGET', pool, 'last_inputs', 'last_again')
  for lane, stream in ipairs({inputs, again}) do
    redis.pcall('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
    if last_ids[lane] then redis.pcall('XSETID', stream, last_ids[lane]) end
  end
  redis.call('PERSIST', pool)
  return true
end

-- Keep the source bundle of a deployed version until its app is stopped; `digest` is empty if it has none.
local function keep_code(app, code, code_apps, app_id, number, digest)
  if digest == '' then return end
  redis.call('HSET', app, 'code:' .. number, digest)
  redis.call('SADD', code_apps, app_id)
  redis.call('PERSIST', code)
end

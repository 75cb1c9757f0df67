-- Forget the names that lead to an app, but for those that are `kept`; a name that leads to another app by now stays.
local function discard_routes(routes, start, kept)
  local known = redis.pcall('HGETALL', routes)
  for n = 1, #known, 2 do
    local name = known[n]
    if not kept[name] and redis.pcall('GET', start .. name) == known[n + 1] then
      redis.call('UNLINK', start .. name)
    end
  end
  redis.call('UNLINK', routes)
end

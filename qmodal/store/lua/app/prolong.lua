-- Prolong the names that lead to an app whose client lives. One that nobody has is taken again: it was lost, or
-- another app had taken it and has ended since. Returns how many lead to the app.
local routes = unpack(KEYS)
local ttl, start = unpack(ARGV)
redis.call('PEXPIRE', routes, ttl) -- a first write that a full server allows
local known = redis.pcall('HGETALL', routes)
local count = 0
for n = 1, #known, 2 do
  local name = start .. known[n]
  redis.call('SET', name, known[n + 1], 'NX', 'PX', ttl)
  if redis.pcall('GET', name) == known[n + 1] then
    redis.call('PEXPIRE', name, ttl)
    count = count + 1
  end
end
return count

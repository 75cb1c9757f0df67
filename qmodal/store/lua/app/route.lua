-- Have names lead to version `number` of an app, and those that led to it before and do not any more forgotten.
-- Takes two arguments a name behind the named ones: the name, and the signed route. A name that leads to another
-- app is taken from it. Returns OK, or STALE if another version is current, or the app was stopped meanwhile.
-- include: discard_routes
local app, routes = unpack(KEYS)
local number, ttl, start = unpack(ARGV)
local current, state = unpack(redis.call('HMGET', app, 'version', 'state'))
if current ~= number or state == 'stopped' then return 'STALE' end
local kept = {}
for n = 4, #ARGV, 2 do kept[ARGV[n]] = true end
discard_routes(routes, start, kept)
local lifetime = ttl ~= '0' and {'PX', ttl} or {}
for n = 4, #ARGV, 2 do
  redis.call('HSET', routes, ARGV[n], ARGV[n + 1])
  redis.call('SET', start .. ARGV[n], ARGV[n + 1], unpack(lifetime))
end
if ttl ~= '0' then redis.call('PEXPIRE', routes, ttl) end
return 'OK'

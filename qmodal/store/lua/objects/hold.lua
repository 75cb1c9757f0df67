-- Note that a schedule is paused, or was resumed, at the server's time; nothing if the app is not deployed any more,
-- or it is so already. Returns 1 if it is noted now, else 0.
-- include: server_ms
local app, schedules = unpack(KEYS)
local field, state = unpack(ARGV)
if redis.call('HGET', app, 'state') ~= 'deployed' then return 0 end
local known = redis.pcall('HGET', schedules, field)
local before = type(known) == 'string' and known:match('^%a+') or 'resumed'
if before == state then return 0 end
redis.call('HSET', schedules, field, state .. ' ' .. server_ms())
return 1

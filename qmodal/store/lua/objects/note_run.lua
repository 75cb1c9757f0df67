-- Note that a slot of a schedule has become a call, unless the app is not deployed any more, or that slot or a later
-- one is noted already. What lies in the future was noted by nobody of ours. Returns 1 if it is noted now, else 0.
-- include: server_ms
local app, schedules = unpack(KEYS)
local field, slot, note = unpack(ARGV)
local SLACK = 60000
if redis.call('HGET', app, 'state') ~= 'deployed' then return 0 end
local known = redis.pcall('HGET', schedules, field)
local last = type(known) == 'string' and tonumber(known:match('^%d+')) or 0
if last >= tonumber(slot) and last <= tonumber(server_ms()) + SLACK then return 0 end
redis.call('HSET', schedules, field, slot .. ' ' .. note)
return 1

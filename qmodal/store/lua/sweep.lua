#!lua flags=allow-oom
-- Give up the boxes whose lease has ended; from now on they cannot renew. Does nothing when run
-- after server time `latest` (ms, 0: any time): after a pause of the server all leases look ended.
-- Returns their ids, those given up earlier and not yet cleared included.
local workers = unpack(KEYS)
local latest = unpack(ARGV)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if latest ~= '0' and now > tonumber(latest) then return {} end
local lost = redis.call('ZRANGEBYSCORE', workers, '-inf', now)
for _, worker in ipairs(lost) do redis.call('ZADD', workers, 'XX', 0, worker) end
return lost

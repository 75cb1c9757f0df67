#!lua flags=allow-oom
-- Give up the boxes whose lease has ended; from now on they cannot renew.
-- Returns their ids, those given up earlier and not yet cleared included.
local workers = unpack(KEYS)
local time = redis.call('TIME')
local lost = redis.call('ZRANGEBYSCORE', workers, '-inf', time[1] * 1000 + math.floor(time[2] / 1000))
for _, worker in ipairs(lost) do redis.call('ZADD', workers, 'XX', 0, worker) end
return lost

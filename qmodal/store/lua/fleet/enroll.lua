#!lua flags=allow-oom
-- Register a box with a fresh lease of so many milliseconds: its record and its lease come and go together.
-- Further fields of the record (name, value) follow: since when it is cordoned, if it was under its last id.
local worker, workers = unpack(KEYS)
local id, report, lease, channel = unpack(ARGV)
local time = redis.call('TIME')
redis.call('HSET', worker, 'report', report, unpack(ARGV, 5))
redis.call('ZADD', workers, time[1] * 1000 + math.floor(time[2] / 1000) + lease, id)
redis.call('PUBLISH', channel, '')
return 1

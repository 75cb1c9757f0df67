#!lua flags=allow-oom
-- Replace what an enrolled box says of itself.
-- Returns 1, or 0 if it was given up: nobody would delete the record again.
local worker, workers = unpack(KEYS)
local id, report, wake = unpack(ARGV)
local ends = redis.call('ZSCORE', workers, id)
if not ends or tonumber(ends) == 0 then return 0 end
redis.call('HSET', worker, 'report', report)
redis.call('PUBLISH', wake, '')
return 1

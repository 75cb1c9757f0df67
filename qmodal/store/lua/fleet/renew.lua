#!lua flags=allow-oom
-- Renew a box's lease and report its containers (container, report; an empty report removes).
-- Returns 1, or 0 if the box was given up: it must end its containers and come back under a new id.
local workers, containers = unpack(KEYS)
local worker, lease = unpack(ARGV)
local ends = redis.call('ZSCORE', workers, worker)
if not ends or tonumber(ends) == 0 then return 0 end
local time = redis.call('TIME')
redis.call('ZADD', workers, 'XX', time[1] * 1000 + math.floor(time[2] / 1000) + lease, worker)
for n = 3, #ARGV, 2 do
  if ARGV[n + 1] == '' then
    redis.pcall('HDEL', containers, ARGV[n])
  elseif type(redis.pcall('HSET', containers, ARGV[n], ARGV[n + 1])) == 'table' then
    -- Only this box writes there. Of another type it would never hear that its lease is renewed.
    redis.call('UNLINK', containers)
    redis.call('HSET', containers, ARGV[n], ARGV[n + 1])
  end
end
return 1

-- Remove a box that has stopped and holds nothing, or was cleared after its end.
local workers, worker, assigned, containers = unpack(KEYS)
local id, channel = unpack(ARGV)
redis.call('ZREM', workers, id)
redis.call('UNLINK', worker, assigned, containers)
redis.call('PUBLISH', channel, '')
return 1

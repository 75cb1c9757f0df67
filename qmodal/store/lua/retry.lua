-- Give an input another attempt after `delay` milliseconds, if the caller still holds its entry.
-- Returns 1, or 0 if somebody else owns the input now.
-- include: readd
local inputs, again, delayed, moved = unpack(KEYS)
local group, lane, entry, delay, channel, pool_id = unpack(ARGV)
local stream = lane == '1' and inputs or again
local found = redis.call('XRANGE', stream, entry, entry)
if redis.call('XACK', stream, group, entry) == 0 then return 0 end
redis.call('XDEL', stream, entry)
redis.call('SREM', moved, entry)
local fields = found[1][2]
fields[8] = fields[8] + 1
if tonumber(delay) == 0 then
  readd(again, moved, fields)
else
  local time = redis.call('TIME')
  redis.call('ZADD', delayed, time[1] * 1000 + math.floor(time[2] / 1000) + delay, cmsgpack.pack(fields))
end
redis.call('PUBLISH', channel, pool_id)
return 1

-- Items of a queue's partition from the number `first` on, at most `count`, without removing them. Returns the number
-- behind the last of them, and the items; nothing if there is no such queue.
local object, items = unpack(KEYS)
local partition, first, count = unpack(ARGV)
local life, place = unpack(redis.call('HMGET', object, 'life', 'p:' .. partition))
if not life then return nil end
local head = (tonumber(place) or 0) - redis.call('LLEN', items)
local start = math.max(0, first - head)
local found = redis.call('LRANGE', items, start, start + count - 1)
return {string.format('%.0f', math.max(first, head + start + #found)), found}

-- Items of a queue's partition, at most `count`, without removing them: those behind the item `last`. If that is not
-- there any more, it went with all before it, and then all items are behind it; so they are if it is empty.
-- Returns nothing if there is no such queue.
local object, items = unpack(KEYS)
local last, count = unpack(ARGV)
if redis.call('EXISTS', object) == 0 then return nil end
local place = redis.call('LPOS', items, last, 'RANK', -1)
local start = place and place + 1 or 0
return redis.call('LRANGE', items, start, start + count - 1)

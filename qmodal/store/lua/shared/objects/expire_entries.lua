-- Remove entries of a dictionary that nobody has used for `hours`, at most so many. Returns how many.
local function expire_entries(entries, used, hours, most)
  local last = math.floor(redis.call('TIME')[1] / 3600) - hours
  local due = redis.call('ZRANGEBYSCORE', used, '-inf', last, 'LIMIT', 0, math.min(most, 1000))
  if #due > 0 then
    redis.call('HDEL', entries, unpack(due))
    redis.call('ZREM', used, unpack(due))
  end
  return #due
end

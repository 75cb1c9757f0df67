-- Put the retries that are due back in line, 100 a run; those of ended calls are dropped.
-- Returns how many were due, and the milliseconds until the next one (-1: none waits).
-- include: fields, tally, reply, record, forget_arguments, end_arguments, drop, readd, shaped, retry_of, set_aside
local pool, again, delayed, dead = unpack(KEYS)
local calls, channel, pool_id = unpack(ARGV)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, 100)
for _, member in ipairs(due) do
  redis.call('ZREM', delayed, member)
  local fields = retry_of(member)
  if fields then
    readd(pool, calls .. fields[CALL], again, fields)
  else
    set_aside(dead, pool_id, 'what waited was no input', {'member', member})
  end
end
if #due > 0 then redis.call('PUBLISH', channel, pool_id) end
local _, at = unpack(redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES'))
-- Somebody else's may be due never; a day is as good.
return {#due, at and math.min(86400000, math.max(0, at - now)) or -1}

-- End what waits in a pool, 100 inputs a run of one lane and of the delayed ones: its app is gone
-- or its containers cannot start. Returns how many were ended.
-- include: record
-- include: drop
local pool, stream, delayed = unpack(KEYS)
local group, reason, calls = unpack(ARGV)
local entries = redis.call('XRANGE', stream, '-', '+', 'COUNT', 100)
for _, found in ipairs(entries) do
  redis.call('XACK', stream, group, found[1])
  redis.call('XDEL', stream, found[1])
  if #found[2] == 12 then
    redis.call('SREM', calls .. found[2][4] .. ':moved', found[1])
    drop(pool, calls, found[2], reason)
  end
end
local waiting = redis.call('ZRANGE', delayed, 0, 99)
for _, member in ipairs(waiting) do
  redis.call('ZREM', delayed, member)
  drop(pool, calls, cmsgpack.unpack(member), reason)
end
return #entries + #waiting

-- Cancel a call: mark it, wake who waits, and end its entries between two ids of one stream,
-- 100 a run. Returns {0} when no entry is left there (or the call had ended), else the number
-- ended, then consumer and entry of each that was running.
local call, outputs, pool, stream, moved = unpack(KEYS)
local group, lane, from, to = unpack(ARGV)
local known = redis.call('HMGET', call, 'state', 'total', 'settled', 'ttl')
if not known[1] then return {0} end
if known[1] == 'open' then
  if known[2] and tonumber(known[3]) >= tonumber(known[2]) then return {0} end
  -- The first write must be one that a full server allows: cancelling frees memory.
  redis.call('PEXPIRE', call, known[4])
  redis.call('HSET', call, 'state', 'cancelled')
  redis.call('XADD', outputs, '*', 'i', -1, 'x', 'cancelled')
  redis.call('PEXPIRE', outputs, known[4])
end
local entries = redis.call('XRANGE', stream, from, to, 'COUNT', 100)
local replies = {#entries}
for _, found in ipairs(entries) do
  local holder = redis.pcall('XPENDING', stream, group, found[1], found[1], 1)
  if redis.call('XACK', stream, group, found[1]) == 1 then
    replies[#replies + 1] = holder[1][2]
    replies[#replies + 1] = found[1]
  end
  redis.call('XDEL', stream, found[1])
  if lane == '2' then redis.call('SREM', moved, found[1]) end
  redis.call('UNLINK', call .. ':blob:' .. found[2][6])
  redis.call('HINCRBY', pool, 'inflight', -1)
end
return replies

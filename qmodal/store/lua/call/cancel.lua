-- Cancel a call: mark it, wake who waits, and end its entries between two ids of one stream,
-- looking at 250 a run; with `spare` = 1 those that a container holds are left to it.
-- Returns the id to go on behind ('' when nothing is left there, or the call had ended), then
-- consumer and entry of each that was running.
-- include: tally, shaped, kept
local call, outputs, pool, stream, moved = unpack(KEYS)
local group, lane, id, spare, from, to = unpack(ARGV)
local known = redis.call('HMGET', call, 'state', 'total', 'settled', 'ttl')
if not known[1] then return {''} end
if known[1] == 'open' then
  if known[2] and (tonumber(known[3] or 0) or 0) >= (tonumber(known[2]) or 0) then return {''} end
  local ttl = tonumber(known[4]) or 3600000
  -- The first write must be one that a full server allows: cancelling frees memory.
  redis.call('PEXPIRE', call, ttl)
  redis.call('HSET', call, 'state', 'cancelled')
  redis.pcall('XADD', outputs, '*', 'i', -1, 'x', 'cancelled')
  redis.call('PEXPIRE', outputs, ttl)
end
local entries = redis.call('XRANGE', stream, from, to, 'COUNT', 250)
local replies = {#entries == 250 and entries[250][1] or ''}
for _, found in ipairs(entries) do
  local entry, fields = found[1], found[2]
  -- Inputs of other calls stand between ours, and what is no input is left to whoever claims it.
  local holder = fields[4] == id and shaped(fields) and redis.pcall('XPENDING', stream, group, entry, entry, 1)
  if holder and not (spare == '1' and holder[1]) then
    if redis.call('XACK', stream, group, entry) == 1 then
      replies[#replies + 1] = holder[1][2]
      replies[#replies + 1] = entry
    end
    redis.call('XDEL', stream, entry)
    if lane == '2' then redis.pcall('SREM', moved, entry) end
    kept(pool, lane, entry, fields)
    redis.call('UNLINK', call .. ':blob:' .. fields[6])
    tally(pool, 'inflight', -fields[12])
  end
end
return replies

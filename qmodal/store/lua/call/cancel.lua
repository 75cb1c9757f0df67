-- Cancel a call: mark it, wake who waits, and end its entries between two ids of one stream,
-- looking at 250 a run; with `spare` = 1 those that a container holds are left to it.
-- Returns the id to go on behind ('' when nothing is left there, or the call had ended), then
-- consumer and entry of each that was running.
-- include: fields, tally, shaped, narrow, reply
local call, outputs, pool, stream, moved = unpack(KEYS)
local group, lane, id, spare, from, to = unpack(ARGV)
local AT_ONCE = 250
local state, total, settled, lifetime, reply_to =
  unpack(redis.call('HMGET', call, 'state', 'total', 'settled', 'ttl', 'reply_to'))
if not state then return {''} end
if state == 'open' then
  if total and (tonumber(settled or 0) or 0) >= (tonumber(total) or 0) then return {''} end
  local ttl = tonumber(lifetime) or 3600000
  -- The first write must be one that a full server allows: cancelling frees memory.
  redis.call('PEXPIRE', call, ttl)
  redis.call('HSET', call, 'state', 'cancelled')
  redis.pcall('XADD', outputs, '*', 'i', -1, 'x', 'cancelled')
  if reply_to then reply(call, reply_to, '-1', 'x', 'cancelled') end
  redis.call('PEXPIRE', outputs, ttl)
end
local entries = redis.call('XRANGE', stream, from, to, 'COUNT', AT_ONCE)
local replies = {#entries == AT_ONCE and entries[AT_ONCE][1] or ''}
for _, found in ipairs(entries) do
  local entry, fields = unpack(found)
  -- Inputs of other calls stand between ours, and what is no input is left to whoever claims it.
  local pending = fields[CALL] == id and shaped(fields) and redis.pcall('XPENDING', stream, group, entry, entry, 1)
  local is_held = pending and pending[1]
  if pending and not (spare == '1' and is_held) then
    if redis.call('XACK', stream, group, entry) == 1 then
      local _, consumer = unpack(is_held)
      replies[#replies + 1] = consumer
      replies[#replies + 1] = entry
    end
    redis.call('XDEL', stream, entry)
    if lane == '2' then redis.pcall('SREM', moved, entry) end
    narrow(pool, lane, entry, fields)
    redis.call('UNLINK', call .. ':blob:' .. fields[INDEX])
    tally(pool, 'inflight', -fields[COUNT])
  end
end
return replies

-- Take back what a dead consumer holds, 100 entries a lane a run, and remove it once that is nothing.
-- Entries named `<lane> <entry>` after the head (`*`: all) are charged one delivery; one at its budget
-- (1 for a marked consumer) ends as lost, and so does a generator that produced.
-- Returns how many were given back, how many were lost, and 1 when the consumer is gone.
-- include: record
-- include: drop
-- include: readd
-- include: shaped
-- include: set_aside
local pool, inputs, again, dead = unpack(KEYS)
local group, consumer, budget, reason, calls, channel, pool_id = unpack(ARGV)
local charged, back, lost, full = {}, 0, 0, false
if redis.call('HEXISTS', pool, 'once:' .. consumer) == 1 then budget = 1 end
for n = 8, #ARGV do charged[ARGV[n]] = true end
for lane, stream in ipairs({inputs, again}) do
  local reply = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 100, 'STREAMS', stream, '0')
  -- A server that refuses writes (MISCONF, READONLY) has not given anything back: say so.
  if reply.err and not reply.err:find('NOGROUP') then return reply end
  local entries = not reply.err and reply[1] and reply[1][2] or {}
  full = full or #entries == 100
  for _, found in ipairs(entries) do
    local entry, fields = found[1], found[2] or {}
    redis.call('XACK', stream, group, entry)
    redis.call('XDEL', stream, entry)
    local ours = shaped(fields)
    if ours and lane == 2 then redis.call('SREM', calls .. fields[4] .. ':moved', entry) end
    if ours and (charged['*'] or charged[lane .. ' ' .. entry]) then fields[10] = fields[10] + 1 end
    local made = ours and redis.call('HGET', calls .. fields[4], 'made:' .. fields[6])
    if ours and not made and tonumber(fields[10]) < tonumber(budget) then
      readd(pool, calls .. fields[4], again, fields) back = back + 1
    else
      if ours then drop(pool, calls .. fields[4], fields, reason) lost = lost + 1 end
      set_aside(dead, pool_id, reason, fields)
    end
  end
  if not full then redis.pcall('XGROUP', 'DELCONSUMER', stream, group, consumer) end
end
if not full then redis.call('HDEL', pool, 'once:' .. consumer) end
if back > 0 then redis.call('PUBLISH', channel, pool_id) end
return {back, lost, full and 0 or 1}

-- Take back what a dead consumer holds, 100 entries a lane a run, and remove it once that is nothing.
-- Charged one delivery are inputs named `<lane> <entry> <index>` after the head, or all, if that is `*`;
-- one at its budget (1 for a marked consumer) ends as lost, and so does a generator that produced.
-- Not charged is what was put back in line at `since` (ms, 0: never) or later, unless the consumer is marked.
-- Returns how many inputs were given back, how many were lost, and 1 when the consumer is gone.
-- include: tally, record, drop, readd, shaped, set_aside, kept, piece, pieces
local pool, inputs, again, dead = unpack(KEYS)
local group, consumer, budget, reason, calls, channel, pool_id, since = unpack(ARGV)
local charged, back, lost, full = {}, 0, 0, false
if redis.call('HEXISTS', pool, 'once:' .. consumer) == 1 then budget, since = 1, '0' end
for n = 9, #ARGV do charged[ARGV[n]:match('^%d %S+') or '*'] = ARGV[n]:match('%d+$') or '*' end
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
    local call = shaped(fields) and calls .. fields[4]
    if call and lane == 2 then redis.pcall('SREM', call .. ':moved', entry) end
    if call then kept(pool, lane, entry, fields) else set_aside(dead, pool_id, reason, fields) end
    local is_new = since ~= '0' and lane == 2 and tonumber(entry:match('^%d+')) >= tonumber(since)
    local ran = not is_new and (charged['*'] or charged[lane .. ' ' .. entry]) or nil
    for _, part in ipairs(call and pieces(fields, ran) or {}) do
      local made = redis.pcall('HGET', call, 'made:' .. part[6])
      if tonumber(part[10]) < tonumber(budget) and type(made) ~= 'string' then
        readd(pool, call, again, part)
        back = back + part[12]
      else
        drop(pool, call, part, reason)
        set_aside(dead, pool_id, reason, part)
        lost = lost + part[12]
      end
    end
  end
  if not full then redis.pcall('XGROUP', 'DELCONSUMER', stream, group, consumer) end
end
if not full then redis.call('HDEL', pool, 'once:' .. consumer) end
if back > 0 then redis.call('PUBLISH', channel, pool_id) end
return {back, lost, full and 0 or 1}

-- Take back what a dead consumer holds, 100 entries a lane a run, and remove it once that is nothing. Charged one
-- delivery are inputs named `<lane> <entry> <index>` after the head, or all, if that is `*`; one at its budget (1 for a
-- marked consumer) ends as lost, and so does a generator that produced. Not charged is what was put back in line at
-- `since` (ms, 0: never) or later, unless the consumer is marked. Returns how many inputs were given back, how many
-- were lost, 1 when the consumer is gone, and what became of those that were charged or lost.
-- include: forget_arguments, end_arguments
-- include: fields, tally, reply, record, drop, readd, shaped, set_aside, narrow, piece, pieces, tell
local pool, inputs, again, dead = unpack(KEYS)
local group, consumer, budget, reason, calls, channel, pool_id, since, most = unpack(ARGV)
local FIRST_CHARGED = 10
local AT_ONCE = 100
local back = 0
local lost = 0
local full = false
local told = {}
if redis.call('HEXISTS', pool, 'once:' .. consumer) == 1 then
  budget = 1
  since = '0'
end
local charged = {}
for n = FIRST_CHARGED, #ARGV do charged[ARGV[n]:match('^%d %S+') or '*'] = ARGV[n]:match('%d+$') or '*' end
for lane, stream in ipairs({inputs, again}) do
  local reply = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', AT_ONCE, 'STREAMS', stream, '0')
  -- A server that refuses writes (MISCONF, READONLY) has not given anything back: say so.
  if reply.err and not reply.err:find('NOGROUP') then return reply end
  local entries = not reply.err and reply[1] and reply[1][2] or {}
  full = full or #entries == AT_ONCE
  for _, found in ipairs(entries) do
    local entry = found[1]
    local fields = found[2] or {} -- none of one that was deleted while it was held
    redis.call('XACK', stream, group, entry)
    redis.call('XDEL', stream, entry)
    if shaped(fields) then
      local call = calls .. fields[CALL]
      if lane == 2 then redis.pcall('SREM', call .. ':moved', entry) end
      narrow(pool, lane, entry, fields)
      local is_new = since ~= '0' and lane == 2 and tonumber(entry:match('^%d+')) >= tonumber(since)
      local ran = not is_new and (charged['*'] or charged[lane .. ' ' .. entry]) or nil
      for _, part in ipairs(pieces(fields, ran)) do
        local made = redis.pcall('HGET', call, 'made:' .. part[INDEX])
        if tonumber(part[LOST]) < tonumber(budget) and type(made) ~= 'string' then
          readd(pool, call, again, part)
          back = back + part[COUNT]
          if part[LOST] ~= fields[LOST] then tell(told, part, false) end
        else
          drop(pool, call, part, reason, tonumber(most), 30)
          set_aside(dead, pool_id, reason, part)
          lost = lost + part[COUNT]
          tell(told, part, true)
        end
      end
    else
      set_aside(dead, pool_id, reason, fields)
    end
  end
  if not full then redis.pcall('XGROUP', 'DELCONSUMER', stream, group, consumer) end
end
if not full then redis.call('HDEL', pool, 'once:' .. consumer) end
if back > 0 then redis.call('PUBLISH', channel, pool_id) end
return {back, lost, full and 0 or 1, told}

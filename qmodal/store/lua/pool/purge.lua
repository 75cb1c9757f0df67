-- End what waits in a pool, 100 entries a run of one lane, up to an id, and of the delayed ones: its
-- app is gone, its containers cannot start, or a person wants it. With `spare` = 1 what containers
-- hold is left to them. Takes the inputs (`<call> <index>`) whose failure was noted behind the named arguments:
-- `most` bytes of such arguments are kept. Returns how many inputs were ended.
-- include: fields, tally, reply, record, forget_arguments, end_arguments, drop, shaped, narrow, retry_of, set_aside
local pool, stream, delayed, dead = unpack(KEYS)
local group, lane, till, reason, calls, pool_id, spare, most = unpack(ARGV)
local FIRST_NOTED = 9
local noted = {}
for n = FIRST_NOTED, #ARGV do noted[ARGV[n]] = tonumber(most) end
local ended = 0
local from = '-'
if spare == '1' then
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  for _, about in ipairs(groups.err and {} or groups) do
    local of = {}
    for n = 1, #about, 2 do of[about[n]] = about[n + 1] end
    if of.name == group then from = '(' .. of['last-delivered-id'] end
  end
end
local entries = redis.call('XRANGE', stream, from, till, 'COUNT', 100)
for _, found in ipairs(entries) do
  local entry, fields = unpack(found)
  redis.call('XACK', stream, group, entry)
  redis.call('XDEL', stream, entry)
  local count = 1
  if shaped(fields) then
    local call = calls .. fields[CALL]
    if lane == '2' then redis.pcall('SREM', call .. ':moved', entry) end
    narrow(pool, lane, entry, fields)
    drop(pool, call, fields, reason, noted[fields[CALL] .. ' ' .. fields[INDEX]], 7)
    count = fields[COUNT]
  end
  ended = ended + count
end
local waiting = redis.call('ZRANGE', delayed, 0, 99)
for _, member in ipairs(waiting) do
  redis.call('ZREM', delayed, member)
  local fields = retry_of(member)
  if fields then
    drop(pool, calls .. fields[CALL], fields, reason)
  else
    set_aside(dead, pool_id, reason, {'member', member})
  end
  ended = ended + (fields and fields[COUNT] or 1)
end
return ended

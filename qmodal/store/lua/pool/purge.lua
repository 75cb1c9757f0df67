-- End what waits in a pool, 100 entries a run of one lane, up to an id, and of the delayed ones: its
-- app is gone or its containers cannot start. Returns how many inputs were ended.
-- include: fields, tally, reply, record, drop, shaped, narrow, retry_of, set_aside
local pool, stream, delayed, dead = unpack(KEYS)
local group, lane, till, reason, calls, pool_id = unpack(ARGV)
local ended = 0
local entries = redis.call('XRANGE', stream, '-', till, 'COUNT', 100)
for _, found in ipairs(entries) do
  local entry, fields = unpack(found)
  redis.call('XACK', stream, group, entry)
  redis.call('XDEL', stream, entry)
  local count = 1
  if shaped(fields) then
    local call = calls .. fields[CALL]
    if lane == '2' then redis.pcall('SREM', call .. ':moved', entry) end
    narrow(pool, lane, entry, fields)
    drop(pool, call, fields, reason)
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

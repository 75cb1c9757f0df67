-- Reduce the fields of an entry that is being consumed to the input that was left to it, if the
-- rest of its pack was split off. The note is in the pool's record: a call may be forgotten earlier.
local function narrow(pool, lane, entry, fields)
  if fields[COUNT] == '1' then return end
  local note = 'kept:' .. lane .. ':' .. entry
  local index = redis.call('HGET', pool, note)
  if not index then return end
  redis.call('HDEL', pool, note)
  fields[INDEX] = index
  fields[COUNT] = '1'
end

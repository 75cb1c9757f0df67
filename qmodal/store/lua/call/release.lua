-- Hand back inputs that were claimed and not started; takes a `call` key and three arguments
-- (lane, entry, deliveries) each, 100 a run. Unless `deliveries` is 0, an entry must have been
-- delivered exactly so often: whoever reads it again is going to start it.
-- Returns how many were still held.
-- include: fields, tally, reply, record, forget_arguments, end_arguments, drop, readd, shaped, narrow
local pool, inputs, again = unpack(KEYS)
local group, channel, pool_id = unpack(ARGV)
local released = 0
for n = 0, #KEYS - 4 do
  local call = KEYS[4 + n]
  local lane, entry, deliveries = unpack(ARGV, 4 + 3 * n, 6 + 3 * n)
  local stream = lane == '1' and inputs or again
  local found = redis.call('XRANGE', stream, entry, entry)
  local fields = found[1] and found[1][2]
  local is_ours = fields and shaped(fields)
  if is_ours and deliveries ~= '0' then
    local _, _, _, delivered = unpack(redis.call('XPENDING', stream, group, entry, entry, 1)[1] or {})
    is_ours = delivered == tonumber(deliveries)
  end
  if is_ours and redis.call('XACK', stream, group, entry) == 1 then
    redis.call('XDEL', stream, entry)
    if lane == '2' then redis.pcall('SREM', call .. ':moved', entry) end
    narrow(pool, lane, entry, fields)
    readd(pool, call, again, fields)
    released = released + 1
  end
end
if released > 0 then redis.call('PUBLISH', channel, pool_id) end
return released

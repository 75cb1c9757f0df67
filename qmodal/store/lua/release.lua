-- Hand back inputs that were claimed and not started; takes a `call` key and two arguments
-- (lane, entry) each, 100 a run. Returns how many were still held.
-- include: record, drop, readd, shaped
local pool, inputs, again = unpack(KEYS)
local group, channel, pool_id = unpack(ARGV)
local released = 0
for n = 0, #KEYS - 4 do
  local call = KEYS[4 + n]
  local lane, entry = unpack(ARGV, 4 + 2 * n, 5 + 2 * n)
  local stream = lane == '1' and inputs or again
  local found = redis.call('XRANGE', stream, entry, entry)
  if found[1] and shaped(found[1][2]) and redis.call('XACK', stream, group, entry) == 1 then
    redis.call('XDEL', stream, entry)
    if lane == '2' then redis.call('SREM', call .. ':moved', entry) end
    readd(pool, call, again, found[1][2])
    released = released + 1
  end
end
if released > 0 then redis.call('PUBLISH', channel, pool_id) end
return released

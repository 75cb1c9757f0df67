-- Hand back inputs that were claimed and not started; takes a `moved` key and two arguments
-- (lane, entry) each, 100 a run. Returns how many were still held.
-- include: readd
local inputs, again = unpack(KEYS)
local group, channel, pool_id = unpack(ARGV)
local released = 0
for n = 0, #KEYS - 3 do
  local moved = KEYS[3 + n]
  local lane, entry = unpack(ARGV, 4 + 2 * n, 5 + 2 * n)
  local stream = lane == '1' and inputs or again
  local found = redis.call('XRANGE', stream, entry, entry)
  if redis.call('XACK', stream, group, entry) == 1 and found[1] then
    redis.call('XDEL', stream, entry)
    redis.call('SREM', moved, entry)
    readd(again, moved, found[1][2])
    released = released + 1
  end
end
if released > 0 then redis.call('PUBLISH', channel, pool_id) end
return released

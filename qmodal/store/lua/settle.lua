-- Record how attempts ended, each once: whoever still holds the entry may, anybody else may not.
-- Takes four keys an attempt (call, outputs, moved, blob; blob = call if there is none) and four
-- arguments (lane 1 or 2, entry, index, outcome).
-- Returns the pool's inputs in flight, then 1 for each attempt recorded and 0 for each stale one.
-- include: record
local pool, inputs, again = unpack(KEYS)
local group = unpack(ARGV)
local replies, ended = {0}, 0
for n = 0, (#KEYS - 3) / 4 - 1 do
  local call, outputs, moved, blob = unpack(KEYS, 4 + 4 * n, 7 + 4 * n)
  local lane, entry, index, outcome = unpack(ARGV, 2 + 4 * n, 5 + 4 * n)
  local stream = lane == '1' and inputs or again
  local held = redis.call('XACK', stream, group, entry)
  replies[n + 2] = held
  if held == 1 then
    redis.call('XDEL', stream, entry)
    if lane == '2' then redis.call('SREM', moved, entry) end
    if blob ~= call then redis.call('UNLINK', blob) end
    record(call, outputs, index, 'o', outcome)
    ended = ended + 1
  end
end
if ended > 0 then
  replies[1] = redis.call('HINCRBY', pool, 'inflight', -ended)
else -- not HINCRBY by nothing, which would bring a forgotten pool back without a lifetime
  replies[1] = tonumber(redis.call('HGET', pool, 'inflight') or 0)
end
return replies

-- Record how attempts ended, each once: whoever still holds the entry may, anybody else may not.
-- Takes one key an attempt (its call) and five arguments (lane 1 or 2, entry, index, outcome,
-- 1 if its arguments are stored apart).
-- Returns the pool's inputs in flight, then 1 for each attempt recorded and 0 for each stale one.
-- include: record
local pool, inputs, again = unpack(KEYS)
local group = unpack(ARGV)
local replies, order, outcomes, gone, ended = {0}, {}, {}, {{}, {}}, 0
for n = 1, #KEYS - 3 do
  local call = KEYS[3 + n]
  local lane, entry, index, outcome, has_blob = unpack(ARGV, 5 * n - 3, 5 * n + 1)
  local held = redis.call('XACK', lane == '1' and inputs or again, group, entry)
  replies[n + 1] = held
  if held == 1 then
    local into, ids = outcomes[call], gone[tonumber(lane)]
    if not into then
      into = {}
      outcomes[call], order[#order + 1] = into, call
    end
    into[#into + 1], into[#into + 2] = index, outcome
    ids[#ids + 1] = entry
    ended = ended + 1
    if lane == '2' then redis.call('SREM', call .. ':moved', entry) end
    if has_blob == '1' then redis.call('UNLINK', call .. ':blob:' .. index) end
  end
end
if #gone[1] > 0 then redis.call('XDEL', inputs, unpack(gone[1])) end
if #gone[2] > 0 then redis.call('XDEL', again, unpack(gone[2])) end
for _, call in ipairs(order) do record(call, 'o', outcomes[call]) end
if ended > 0 then
  replies[1] = redis.call('HINCRBY', pool, 'inflight', -ended)
else -- not HINCRBY by nothing, which would bring a forgotten pool back without a lifetime
  replies[1] = tonumber(redis.call('HGET', pool, 'inflight') or 0)
end
return replies

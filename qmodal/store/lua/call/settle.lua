-- Record how attempts ended, each once: whoever still holds the entry may, anybody else may not.
-- Takes one key an attempt (its call) and six arguments (lane 1 or 2, entry, index of the first input, number of
-- inputs, outcome; b: their arguments are stored apart, a number: so, and kept within so many bytes, k: they are what
-- was kept of a pack). Several entries, with blanks between them, each stand for one of the inputs. Returns the pool's
-- inputs in flight, then 1 for each recorded attempt, 0 for one of which something was stale.
-- include: tally, reply, reply_all, record, acknowledge, acknowledge_ones, forget_arguments, end_arguments
local pool, inputs, again = unpack(KEYS, 1, 3)
local group = unpack(ARGV, 1, 1)
local replies = {0}
local calls = {}
local outcomes = {} -- (index, count, outcome, ...) of each call
local gone = {['1'] = {}, ['2'] = {}} -- entries of each lane
local ended = 0
local held_ones = #KEYS > 4 and acknowledge_ones(inputs, again, ARGV)
for n = 1, #KEYS - 3 do
  local call = KEYS[3 + n]
  local lane, entry, index, count, outcome, mark = unpack(ARGV, 6 * n - 4, 6 * n + 1)
  local runs = {}
  local entries
  if held_ones and count == '1' and mark ~= 'k' then
    if held_ones[n] then runs = {index, 1} end
    entries = {entry}
  -- Without its note (after a rollback) what was kept is the whole pack; and with one, no pack is whole.
  elseif mark == 'k' and redis.call('HDEL', pool, 'kept:' .. lane .. ':' .. entry) == 1
    or mark ~= 'k' and (count == '1' or redis.call('HEXISTS', pool, 'kept:' .. lane .. ':' .. entry) == 0) then
    runs, entries = acknowledge(lane == '1' and inputs or again, group, entry, index, count)
  end
  local held = 0
  for at = 1, #runs, 2 do
    local ends = outcomes[call]
    if not ends then
      ends = {}
      outcomes[call] = ends
      calls[#calls + 1] = call
    end
    ends[#ends + 1] = runs[at]
    ends[#ends + 1] = runs[at + 1]
    ends[#ends + 1] = outcome
    held = held + runs[at + 1]
  end
  replies[n + 1] = held == tonumber(count) and 1 or 0
  ended = ended + held
  if held > 0 then
    local ids = gone[lane]
    for _, id in ipairs(entries) do ids[#ids + 1] = id end
    if lane == '2' then redis.pcall('SREM', call .. ':moved', unpack(entries)) end
    if mark ~= '' and mark ~= 'k' then end_arguments(pool, call, index, tonumber(mark), 7) end
  end
end
if #gone['1'] > 0 then redis.call('XDEL', inputs, unpack(gone['1'])) end
if #gone['2'] > 0 then redis.call('XDEL', again, unpack(gone['2'])) end
local to_callers = {}
for _, call in ipairs(calls) do record(call, 'o', outcomes[call], to_callers) end
reply_all(to_callers)
if ended > 0 then
  replies[1] = tally(pool, 'inflight', -ended)
else -- not HINCRBY by nothing, which would bring a forgotten pool back without a lifetime
  replies[1] = tonumber(redis.call('HGET', pool, 'inflight') or 0) or 0
end
return replies

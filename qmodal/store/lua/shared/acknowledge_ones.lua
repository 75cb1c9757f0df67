-- Acknowledge at once the entries of those attempts (six values each, behind the group) that each stand for one
-- input. Returns which attempts had entries that were still held, by their numbers.
local function acknowledge_ones(inputs, again, attempts)
  local entries = {['1'] = {}, ['2'] = {}}
  local numbers = {['1'] = {}, ['2'] = {}}
  for n = 1, (#attempts - 1) / 6 do
    local lane, entry, _, count, _, mark = unpack(attempts, 6 * n - 4, 6 * n + 1)
    if count == '1' and mark ~= 'k' then
      local own = entries[lane]
      own[#own + 1] = entry
      numbers[lane][#own] = n
    end
  end
  local held = {}
  for lane, own in pairs(entries) do
    local stream = lane == '1' and inputs or again
    local found = #own > 0 and redis.call('XACK', stream, attempts[1], unpack(own)) or 0
    local seen = {}
    for at, entry in ipairs(found > 0 and own or {}) do
      -- As in `acknowledge`: if not all were held, those that are still there were.
      if found == #own or not seen[entry] and #redis.call('XRANGE', stream, entry, entry) > 0 then
        held[numbers[lane][at]] = true
      end
      seen[entry] = true
    end
  end
  return held
end

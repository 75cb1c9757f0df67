-- Note that entries of a dictionary (their keys) are used now, by the hour, as most uses then write nothing.
-- False if there is no such dictionary, and then there are no entries.
local function use_entries(object, entries, used, hours, keys)
  local now, micros = unpack(redis.call('TIME'))
  local hour = math.ceil(now / 3600)
  local changed = 0
  for at = 1, #keys, 2000 do
    local scored = {}
    for n = at, math.min(at + 1999, #keys) do
      scored[#scored + 1] = hour
      scored[#scored + 1] = keys[n]
    end
    changed = changed + redis.call('ZADD', used, 'CH', unpack(scored))
  end
  -- What was noted already belongs to a dictionary that is there: all of it goes at once.
  if changed == 0 then return true end
  -- Of many single entries only some do more: within an hour one does.
  if #keys == 1 and micros % 16 > 0 and redis.call('PTTL', used) > hours * 3600000 then return true end
  return keep_entries(object, entries, used, hours, #keys)
end

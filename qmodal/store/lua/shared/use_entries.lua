-- Note that entries of a dictionary (their keys) are used now, by the hour, as most uses then write nothing. Drops
-- some of those that nobody has used for `hours`, so that they are gone as fast as new ones come.
-- `left`: ms until an ephemeral dictionary ends, -1 for another one.
local function use_entries(entries, used, left, hours, keys)
  local hour = math.ceil(redis.call('TIME')[1] / 3600)
  local changed = 0
  for at = 1, #keys, 2000 do
    local scored = {}
    for n = at, math.min(at + 1999, #keys) do
      scored[#scored + 1] = hour
      scored[#scored + 1] = keys[n]
    end
    changed = changed + redis.call('ZADD', used, 'CH', unpack(scored))
  end
  if changed == 0 then return end
  local ttl = left > 0 and left or (hours + 1) * 3600000
  redis.call('PEXPIRE', entries, ttl)
  redis.call('PEXPIRE', used, ttl)
  expire_entries(entries, used, hours, 2 * #keys)
end

-- Whether a dictionary has an entry; one that nobody has used for `hours` is removed and counts as none.
local function has_entry(entries, used, hours, key)
  if redis.call('HEXISTS', entries, key) == 0 then return false end
  local hour = redis.call('ZSCORE', used, key)
  if not hour or tonumber(hour) > math.floor(redis.call('TIME')[1] / 3600) - hours then return true end
  redis.call('HDEL', entries, key)
  redis.call('ZREM', used, key)
  return false
end

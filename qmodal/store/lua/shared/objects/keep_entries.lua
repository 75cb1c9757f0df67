-- So many entries of a dictionary are used for the first time in this hour: gives all entries their lifetimes, and
-- drops some that nobody has used for `hours`, so that they are gone as fast as new ones come. False if there is no
-- such dictionary, and then there are no entries.
local function keep_entries(object, entries, used, hours, count)
  local left = redis.call('PTTL', object)
  if left == -2 then
    redis.call('UNLINK', entries, used)
    return false
  end
  -- As long as an ephemeral dictionary.
  local ttl = left > 0 and left or (hours + 1) * 3600000
  redis.call('PEXPIRE', entries, ttl)
  redis.call('PEXPIRE', used, ttl)
  expire_entries(entries, used, hours, 32 * count)
  return true
end

-- Give a name to an object, or take it away (`after` is empty), if the record that it leads to is `before` (or there is
-- none). Returns the record that it leads to now.
local names = unpack(KEYS)
local name, before, after = unpack(ARGV)
local found = redis.call('HGET', names, name) or ''
if found ~= before then return found end
if after == '' then
  redis.call('HDEL', names, name)
else
  redis.call('HSET', names, name, after)
end
return after

-- Put entries into a dictionary: key and value of each, behind the named arguments.
-- Returns 1, or -1 if there is no such dictionary.
-- include: expire_entries, use_entries
local object, entries, used = unpack(KEYS)
local hours = unpack(ARGV, 1, 1)
local FIRST = 2
local left = redis.call('PTTL', object)
if left == -2 then return -1 end
local keys = {}
for at = FIRST, #ARGV, 4000 do
  local till = math.min(at + 3999, #ARGV)
  redis.call('HSET', entries, unpack(ARGV, at, till))
  for n = at, till, 2 do keys[#keys + 1] = ARGV[n] end
end
use_entries(entries, used, left, tonumber(hours), keys)
return 1

-- Put entries into a dictionary: key and value of each, behind the named arguments.
-- Returns 1, or -1 if there is no such dictionary.
-- include: expire_entries, keep_entries, use_entries
local object, entries, used = unpack(KEYS)
local hours = unpack(ARGV, 1, 1)
local FIRST = 2
local keys = {}
for at = FIRST, #ARGV, 4000 do
  redis.call('HSET', entries, unpack(ARGV, at, math.min(at + 3999, #ARGV)))
end
for n = FIRST, #ARGV, 2 do keys[#keys + 1] = ARGV[n] end
return use_entries(object, entries, used, hours, keys) and 1 or -1

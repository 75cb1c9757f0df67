#!lua flags=allow-oom
-- The values of a dictionary's keys (behind the named arguments), until they are `most` bytes; none for a key that
-- has no entry any more. What is read is used.
-- include: expire_entries, keep_entries, use_entries
local object, entries, used = unpack(KEYS)
local hours, most = unpack(ARGV, 1, 2)
local FIRST = 3
local values = {}
local read = {}
local size = 0
for n = FIRST, #ARGV do
  local value = redis.call('HGET', entries, ARGV[n])
  values[#values + 1] = value
  if value then
    read[#read + 1] = ARGV[n]
    size = size + #value
  end
  if size >= tonumber(most) then break end
end
if #read > 0 then use_entries(object, entries, used, hours, read) end
return values

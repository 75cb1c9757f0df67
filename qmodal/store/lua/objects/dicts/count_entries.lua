-- Remove entries of a dictionary whose time is over, a thousand at most. Returns how many, and how many are left;
-- nothing if there is no such dictionary.
-- include: expire_entries
local object, entries, used = unpack(KEYS)
local hours = unpack(ARGV)
if redis.call('EXISTS', object) == 0 then return nil end
return {expire_entries(entries, used, hours, 1000), redis.call('HLEN', entries)}

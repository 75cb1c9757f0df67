-- Put an entry into a dictionary unless it has one of that key. Returns 1 if it was put, by this write or when it was
-- sent before; 0 if there was one already; -1 if there is no such dictionary.
-- include: expire_entries, has_entry, keep_entries, use_entries
local object, entries, used, wrote = unpack(KEYS)
local hours, number, remember, key, value = unpack(ARGV)
if redis.call('EXISTS', object) == 0 then return -1 end
if has_entry(entries, used, hours, key) then return redis.call('GET', wrote) == number and 1 or 0 end
if redis.call('SET', wrote, number, 'PX', remember, 'GET') == number then return 1 end
redis.call('HSET', entries, key, value)
use_entries(object, entries, used, hours, {key})
return 1

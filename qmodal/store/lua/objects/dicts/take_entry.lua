-- Remove an entry of a dictionary, if its value begins with `head`. Returns 1 if it was removed, by this write or when
-- it was sent before; 0 if not; -1 if there is no such dictionary.
-- include: has_entry
local object, entries, used, wrote = unpack(KEYS)
local hours, number, remember, key, head = unpack(ARGV)
if redis.call('EXISTS', object) == 0 then return -1 end
if redis.call('GET', wrote) == number then return 1 end
if not has_entry(entries, used, hours, key) then return 0 end
if head ~= '' and redis.call('HGET', entries, key):sub(1, #head) ~= head then return 0 end
redis.call('HDEL', entries, key)
redis.call('ZREM', used, key)
redis.call('SET', wrote, number, 'PX', remember)
return 1

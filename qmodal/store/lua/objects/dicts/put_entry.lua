-- Put one entry into a dictionary, as put_entries does it, in half of its time.
-- Returns 1, or -1 if there is no such dictionary.
-- include: expire_entries, keep_entries
local object, entries, used = unpack(KEYS)
local hours, key, value = unpack(ARGV)
local call = redis.call
call('HSET', entries, key, value)
local time = call('TIME')
if call('ZADD', used, 'CH', math.ceil(time[1] / 3600), key) == 0 then return 1 end
if time[2] % 16 > 0 and call('PTTL', used) > hours * 3600000 then return 1 end
return keep_entries(object, entries, used, hours, 1) and 1 or -1

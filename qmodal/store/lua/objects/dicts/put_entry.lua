-- Put one entry into a dictionary, as put_entries does it, in half of its time. Of those that are used for the first
-- time in this hour, about one of `looks` looks after the others, too.
-- Returns 1, or -1 if there is no such dictionary; after such a look, if it is not ephemeral, the server's time in s.
-- include: expire_entries, keep_entries
local object, entries, used = unpack(KEYS)
local hours, looks, key, value = unpack(ARGV)
local call = redis.call
call('HSET', entries, key, value)
local time = call('TIME')
if call('ZADD', used, 'CH', math.ceil(time[1] / 3600), key) == 0 then return 1 end
local enough = hours * 3600000
if time[2] % looks > 0 and call('PTTL', used) > enough then return 1 end
if not keep_entries(object, entries, used, hours, 2) then return -1 end
return call('PTTL', used) > enough and tonumber(time[1]) or 1

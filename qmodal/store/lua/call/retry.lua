-- Give an input another attempt after `delay` milliseconds, if the caller still holds its entry.
-- Returns 1, or 0 if somebody else owns the input now.
-- include: tally, record, drop, readd, wait, shaped, kept
local pool, inputs, again, delayed, call = unpack(KEYS)
local group, lane, entry, delay, channel, pool_id = unpack(ARGV)
local stream = lane == '1' and inputs or again
local found = redis.call('XRANGE', stream, entry, entry)
if not found[1] or not shaped(found[1][2]) then return 0 end
if redis.call('XACK', stream, group, entry) == 0 then return 0 end
redis.call('XDEL', stream, entry)
if lane == '2' then redis.pcall('SREM', call .. ':moved', entry) end
local fields = found[1][2]
kept(pool, lane, entry, fields)
fields[8] = tostring(fields[8] + 1)
wait(pool, call, again, delayed, fields, delay)
redis.call('PUBLISH', channel, pool_id)
return 1

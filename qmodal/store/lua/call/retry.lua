-- Give an input another attempt after `delay` milliseconds, if the caller still holds its entry.
-- Returns 1, or 0 if somebody else owns the input now.
-- include: fields, tally, reply, record, forget_arguments, end_arguments, drop, readd, readd_later, shaped, narrow
local pool, inputs, again, delayed, call = unpack(KEYS)
local group, lane, entry, delay, channel, pool_id = unpack(ARGV)
local stream = lane == '1' and inputs or again
local found = redis.call('XRANGE', stream, entry, entry)
local fields = found[1] and found[1][2]
if not fields or not shaped(fields) then return 0 end
if redis.call('XACK', stream, group, entry) == 0 then return 0 end
redis.call('XDEL', stream, entry)
if lane == '2' then redis.pcall('SREM', call .. ':moved', entry) end
narrow(pool, lane, entry, fields)
fields[RETRIES] = tostring(fields[RETRIES] + 1)
readd_later(pool, call, again, delayed, fields, delay)
redis.call('PUBLISH', channel, pool_id)
return 1

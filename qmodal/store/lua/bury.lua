-- Set aside an entry that cannot be processed, with the reason, if the caller still holds it.
-- Returns 1, or 0 if it was no longer held.
-- include: record
-- include: drop
local pool, stream, dead = unpack(KEYS)
local group, entry, reason, calls, pool_id = unpack(ARGV)
local found = redis.call('XRANGE', stream, entry, entry)
if redis.call('XACK', stream, group, entry) == 0 then return 0 end
redis.call('XDEL', stream, entry)
local fields = found[1] and found[1][2] or {}
if #fields == 12 and fields[3] == 'c' and redis.call('EXISTS', calls .. fields[4]) == 1 then
  redis.call('SREM', calls .. fields[4] .. ':moved', entry)
  drop(pool, calls, fields, reason)
end
redis.call('XADD', dead, 'MAXLEN', '~', 10000, '*', 'why', reason, 'pool', pool_id, unpack(fields, 1, 64))
return 1

-- Set aside an entry that cannot be processed, with the reason, if the caller still holds it.
-- `most`: how many bytes of arguments are kept. Returns 1, or 0 if it was no longer held.
-- include: fields, tally, reply, record, forget_arguments, end_arguments, drop, shaped, narrow, set_aside
local pool, stream, dead = unpack(KEYS)
local group, lane, entry, reason, calls, pool_id, most = unpack(ARGV)
local found = redis.call('XRANGE', stream, entry, entry)
if redis.call('XACK', stream, group, entry) == 0 then return 0 end
redis.call('XDEL', stream, entry)
local fields = found[1] and found[1][2] or {}
if shaped(fields) then
  local call = calls .. fields[CALL]
  if lane == '2' then redis.pcall('SREM', call .. ':moved', entry) end
  narrow(pool, lane, entry, fields)
  drop(pool, call, fields, reason, tonumber(most), 30)
end
set_aside(dead, pool_id, reason, fields)
return 1

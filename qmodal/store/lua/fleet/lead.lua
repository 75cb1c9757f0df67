#!lua flags=allow-oom
-- Take or keep the leadership for `ttl` milliseconds.
-- Returns the epoch of the caller's leadership, or 0 if another process leads.
local leader, epochs = unpack(KEYS)
local id, ttl = unpack(ARGV)
local holder = redis.pcall('GET', leader)
if type(holder) == 'table' then
  redis.call('UNLINK', leader) -- of another type, it names nobody
  holder = false
end
local epoch = redis.pcall('GET', epochs)
local is_known = type(epoch) == 'string' and epoch:match('^%d+$') and #epoch < 15
if holder == id and is_known then
  redis.call('PEXPIRE', leader, ttl)
  return tonumber(epoch)
end
if holder and holder ~= id then
  -- Who leads sets a lifetime with each renewal. A leader without one, or with a longer one, is none
  -- that would ever go: it is given the usual one, and keeps the lead only by renewing it.
  local left = redis.call('PTTL', leader)
  if left < 0 or left > 2 * ttl then redis.call('PEXPIRE', leader, ttl) end
  return 0
end
redis.call('SET', leader, id, 'PX', ttl)
-- An epoch that is no count begins at the clock, beyond any count there was: what was written with
-- those is refused, and the names that containers got with them do not come again.
if epoch and not is_known then redis.call('SET', epochs, redis.call('TIME')[1]) end
return redis.call('INCR', epochs)

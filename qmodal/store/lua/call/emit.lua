-- Append what a running generator has produced, if the caller still holds its entry: items `first`
-- and following (those recorded already are skipped), as many as keep the outputs within `room`.
-- Returns how many items are recorded in all, and OK; FULL: wait at `more`, then repeat;
-- CLOSED: nobody reads any more; STALE: somebody else owns the input, or it has ended.
local call, outputs, stream, more = unpack(KEYS)
local group, consumer, entry, index, first, room = unpack(ARGV)
local NAMED = 6 -- arguments; the items are behind them
local state, recorded = unpack(redis.call('HMGET', call, 'state', 'made:' .. index))
local made = tonumber(recorded or 0)
local last = first + #ARGV - NAMED
local held = redis.call('XPENDING', stream, group, entry, entry, 1, consumer)
if #held == 0 or made < tonumber(first) and state then return {made, 'STALE'} end
if state ~= 'open' then return {made, 'CLOSED'} end
if last <= made then return {made, 'OK'} end
local free = room - redis.call('XLEN', outputs)
if free > 0 then
  local till = math.min(last, made + free)
  redis.call('HSET', call, 'made:' .. index, till)
  for n = made, till - 1 do
    redis.call('XADD', outputs, '*', 'i', index, 'y', ARGV[NAMED + 1 + n - first])
  end
  made = till
end
if last <= made then return {made, 'OK'} end
-- Whoever reads wakes the caller when half of it is gone; a push from before means nothing now.
redis.call('UNLINK', more)
redis.call('HSET', call, 'waits', math.floor(room / 2))
return {made, 'FULL'}

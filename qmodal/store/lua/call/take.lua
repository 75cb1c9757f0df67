-- Remove what was read of a generator's items (the arguments), and let a producer that waits for
-- room go on once there is enough of it. Returns how many were removed.
local call, outputs, more = unpack(KEYS)
local removed = redis.call('XDEL', outputs, unpack(ARGV))
local waits = redis.call('HGET', call, 'waits')
if waits and redis.call('XLEN', outputs) <= (tonumber(waits) or math.huge) then
  redis.call('HDEL', call, 'waits')
  redis.call('LPUSH', more, 1)
  redis.call('PEXPIRE', more, 10000)
end
return removed

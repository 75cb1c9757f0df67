-- Append a small item to a partition of a queue that is not ephemeral, if it has been put into before.
-- Returns OK, also if this write did so when it was sent before. Anything else: nothing is written, and put_items
-- says why not. What was done in vain is undone, so that what is usual needs no look before.
local items, wrote = unpack(KEYS)
local ttl, number, item = unpack(ARGV)
local MOST = 5000
local MOST_BYTES = 67108864
local MANY = 64 -- of the largest items so many have room
local call = redis.call
local length = call('RPUSH', items, item)
local refusal
if length == 1 then
  -- Only a list that is there shows that its partition is noted. To name a third key takes time of every put.
  local object, partition = items:match('^(.-{s%d%d}:object:[^:]+):items:(.*)$')
  refusal = call('HEXISTS', object, 'p:' .. partition) == 0 and 'UNKNOWN'
elseif length > MOST then
  refusal = 'FULL'
elseif length % 16 == 0 and length > MANY then
  -- Small items make a partition a little too large until the next look.
  refusal = call('MEMORY', 'USAGE', items, 'SAMPLES', 0) > MOST_BYTES and 'FULL'
end
if refusal then
  call('RPOP', items)
  return call('GET', wrote) == number and 'OK' or refusal
end
-- The writes of a writer come one after another: an earlier one has been written. They are counted for twice as long
-- as the writer is used.
local count = call('INCR', wrote)
local expected = tonumber(number)
if count > expected then
  call('RPOP', items)
  call('DECR', wrote)
  return 'OK'
end
call('PEXPIRE', items, ttl)
if count == 1 or count < expected then call('SET', wrote, number, 'PX', 1200000) end
return 'OK'

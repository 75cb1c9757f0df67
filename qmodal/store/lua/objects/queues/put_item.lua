-- Append a small item to a partition of a queue that is not ephemeral, if it has been put into before.
-- Returns OK, also if this write did so when it was sent before. Anything else: nothing is written, and put_items
-- says why not. What was done in vain is undone, so that what is usual needs no look before.
local items, wrote, object = unpack(KEYS)
local ttl, number, item = unpack(ARGV)
local MOST, MOST_BYTES, MANY = 5000, 67108864, 64 -- of the largest items so many have room
local call = redis.call
local length = call('RPUSH', items, item)
local refusal
if length == 1 then
  -- Only a list that is there shows that its partition is noted.
  refusal = call('HEXISTS', object, 'p:' .. items:sub(#object + 8)) == 0 and 'UNKNOWN'
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
-- A writer counts its writes here, and is used for half as long as that is kept.
local count, expected = call('INCR', wrote), tonumber(number)
if count == expected + 1 then
  call('RPOP', items)
  call('DECR', wrote)
  return 'OK'
end
call('PEXPIRE', items, ttl)
if count ~= expected or count == 1 then call('SET', wrote, number, 'PX', 1200000) end
return 'OK'

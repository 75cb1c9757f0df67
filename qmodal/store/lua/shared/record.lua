-- Append an outcome to a call's outputs and count it down. A call with nothing in flight gets
-- its lifetime; one that was cancelled, delivered or never existed gets nothing.
local function record(call, outputs, index, kind, outcome)
  local known = redis.call('HMGET', call, 'state', 'submitted', 'ttl')
  if known[1] ~= 'open' then return end
  redis.call('XADD', outputs, '*', 'i', index, kind, outcome)
  if redis.call('HINCRBY', call, 'settled', 1) >= tonumber(known[2]) then
    redis.call('PEXPIRE', call, known[3])
    redis.call('PEXPIRE', outputs, known[3])
  end
end

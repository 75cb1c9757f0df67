-- Append outcomes (index, outcome, ...) to a call's outputs and count them down. A call with nothing
-- in flight gets its lifetime; one that was cancelled, delivered or never existed gets nothing.
local function record(call, kind, outcomes)
  local known = redis.call('HMGET', call, 'state', 'submitted', 'ttl')
  if known[1] ~= 'open' then return end
  local outputs = call .. ':outputs'
  for n = 1, #outcomes, 2 do
    redis.call('XADD', outputs, '*', 'i', outcomes[n], kind, outcomes[n + 1])
  end
  if redis.call('HINCRBY', call, 'settled', #outcomes / 2) >= tonumber(known[2]) then
    redis.call('PEXPIRE', call, known[3])
    redis.call('PEXPIRE', outputs, known[3])
  end
end

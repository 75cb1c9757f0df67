-- Append outcomes (index, count, outcome, ...) to a call's outputs and count them down. A call with
-- nothing in flight gets its lifetime; one that was cancelled, delivered or never existed nothing.
local function record(call, kind, outcomes)
  local known = redis.call('HMGET', call, 'state', 'submitted', 'ttl')
  if known[1] ~= 'open' then return end
  local outputs, ended = call .. ':outputs', 0
  for n = 1, #outcomes, 3 do
    local index, count = outcomes[n], tonumber(outcomes[n + 1])
    redis.call('XADD', outputs, '*', 'i', count == 1 and index or index .. '+' .. count, kind, outcomes[n + 2])
    ended = ended + count
  end
  if redis.call('HINCRBY', call, 'settled', ended) >= tonumber(known[2]) then
    redis.call('PEXPIRE', call, known[3])
    -- A server allots 4 KB to a stream that begins; a copy takes what it holds. For one entry that is
    -- kept for longer than an hour this is most of a call's memory.
    if known[2] == '1' and tonumber(known[3]) > 3600000 then
      redis.call('COPY', outputs, call .. ':copy', 'REPLACE')
      redis.call('RENAME', call .. ':copy', outputs)
    end
    redis.call('PEXPIRE', outputs, known[3])
  end
end

-- Append outcomes (index, count, outcome, ...) to a call's outputs and count them down. A call with
-- nothing in flight gets its lifetime; one that was cancelled, delivered or never existed nothing.
-- Its entries are gone by now, and with them perhaps those of other calls: an odd record stops nothing.
local function record(call, kind, outcomes, replies)
  local state, submitted, lifetime, reply_to =
    unpack(redis.pcall('HMGET', call, 'state', 'submitted', 'ttl', 'reply_to'))
  if state ~= 'open' then return end
  local outputs = call .. ':outputs'
  local ended = 0
  for n = 1, #outcomes, 3 do
    local place = outcomes[n]
    local count = tonumber(outcomes[n + 1])
    local outcome = outcomes[n + 2]
    if count > 1 then place = place .. '+' .. count end
    redis.pcall('XADD', outputs, '*', 'i', place, kind, outcome)
    if reply_to then reply(call, reply_to, place, kind, outcome, replies) end
    ended = ended + count
  end
  if tally(call, 'settled', ended) < (tonumber(submitted) or 0) then return end
  local ttl = tonumber(lifetime) or 3600000
  redis.call('PEXPIRE', call, ttl)
  -- A server allots 4 KB to a stream that begins; a copy takes what it holds. For one entry that is
  -- kept for longer than an hour this is most of a call's memory.
  if submitted == '1' and ttl > 3600000 then
    redis.call('COPY', outputs, call .. ':copy', 'REPLACE')
    redis.call('RENAME', call .. ':copy', outputs)
  end
  redis.call('PEXPIRE', outputs, ttl)
end

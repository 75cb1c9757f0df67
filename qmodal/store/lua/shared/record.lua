-- Append outcomes (index, count, outcome, ...) to a call's outputs and count them down. A call with
-- nothing in flight gets its lifetime; one that was cancelled, delivered or never existed nothing.
-- Its entries are gone by now, and with them perhaps those of other calls: an odd record stops nothing.
local function record(call, kind, outcomes)
  local known = redis.pcall('HMGET', call, 'state', 'submitted', 'ttl')
  if known[1] ~= 'open' then return end
  local outputs, ended, ttl = call .. ':outputs', 0, tonumber(known[3]) or 3600000
  for n = 1, #outcomes, 3 do
    local index, number = outcomes[n], tonumber(outcomes[n + 1])
    redis.pcall('XADD', outputs, '*', 'i', number == 1 and index or index .. '+' .. number, kind, outcomes[n + 2])
    ended = ended + number
  end
  if tally(call, 'settled', ended) >= (tonumber(known[2]) or 0) then
    redis.call('PEXPIRE', call, ttl)
    -- A server allots 4 KB to a stream that begins; a copy takes what it holds. For one entry that is
    -- kept for longer than an hour this is most of a call's memory.
    if known[2] == '1' and ttl > 3600000 then
      redis.call('COPY', outputs, call .. ':copy', 'REPLACE')
      redis.call('RENAME', call .. ':copy', outputs)
    end
    redis.call('PEXPIRE', outputs, ttl)
  end
end

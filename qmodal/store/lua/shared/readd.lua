-- Put an input back in line, ahead of what was never delivered, and note where it went so that
-- cancel finds it. One whose call has ended is dropped: it would run after its cancellation. So is
-- a generator that has produced: its reader would get the first items twice.
-- The fields are {e, ., c, ., i, ., r, ., d, ., n, .}: envelope, call, index of the first of `n`
-- inputs, retries used, deliveries lost.
local function readd(pool, call, again, fields)
  local known = redis.call('HMGET', call, 'state', 'made:' .. fields[6])
  if known[1] == 'open' and not known[2] then
    redis.call('SADD', call .. ':moved', redis.call('XADD', again, '*', unpack(fields)))
  else
    drop(pool, call, fields, 'a generator that has produced items does not run again')
  end
end

-- Put an input back in line, ahead of what was never delivered, and note where it went so that
-- cancel finds it. One whose call has ended is dropped: it would run after its cancellation.
-- The fields are {e, ., c, ., i, ., r, ., d, ., at, .}.
local function readd(pool, call, again, fields)
  if redis.call('HGET', call, 'state') == 'open' then
    redis.call('SADD', call .. ':moved', redis.call('XADD', again, '*', unpack(fields)))
  else
    drop(pool, call, fields, '')
  end
end

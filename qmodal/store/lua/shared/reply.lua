-- Append how an input ended to the reply stream that its call's caller reads, if that is there: it has a lifetime,
-- which nothing here may begin. A large outcome is only announced (l), as its call's outputs have it.
-- With `replies`, a table, it is kept there for `reply_all`, as several calls have the same stream.
local function reply(call, reply_to, place, kind, outcome, replies)
  local shard, id = call:match('^(.*)call:(.*)$')
  local stream = shard .. 'replies:' .. reply_to
  if #outcome > 16384 then
    kind = 'l'
    outcome = ''
  end
  if not replies then
    redis.pcall('XADD', stream, 'NOMKSTREAM', 'MAXLEN', '~', 10000, '*', id, place, kind, outcome)
    return
  end
  local own = replies[stream] or {}
  local last = #own
  own[last + 1] = id
  own[last + 2] = place
  own[last + 3] = kind
  own[last + 4] = outcome
  replies[stream] = own
end

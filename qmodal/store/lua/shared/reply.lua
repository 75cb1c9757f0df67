-- Append how an input ended to the reply stream that its call's caller reads, if that is there: it has a lifetime,
-- which nothing here may begin. A large outcome is only announced (l), as its call's outputs have it.
-- With `replies`, a table by `reply_to`, it is kept there for `reply_all`, as several calls have the same stream.
local function reply(call, reply_to, place, kind, outcome, replies)
  if #outcome > 16384 then
    kind = 'l'
    outcome = ''
  end
  local own = replies and replies[reply_to]
  if not own then
    -- Where the id begins is the same in the keys of all calls.
    local shard, at = call:match('^(.*)call:()')
    own = {stream = shard .. 'replies:' .. reply_to, id_at = at}
    if replies then replies[reply_to] = own end
  end
  local last = #own
  own[last + 1] = call:sub(own.id_at)
  own[last + 2] = place
  own[last + 3] = kind
  own[last + 4] = outcome
  if not replies then redis.pcall('XADD', own.stream, 'NOMKSTREAM', 'MAXLEN', '~', 10000, '*', unpack(own)) end
end

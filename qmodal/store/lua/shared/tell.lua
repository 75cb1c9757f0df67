-- Tell the mailbox that a call's caller reads how an input ended, if it is there: it has a lifetime, which nothing
-- here may begin. A large outcome is only announced (l), as its call's outputs have it.
-- With `letters`, a table, it is kept there for `tell_all`, as several calls have the same mailbox.
local function tell(call, mailbox, place, kind, outcome, letters)
  local shard, id = call:match('^(.*)call:(.*)$')
  local stream = shard .. 'replies:' .. mailbox
  if #outcome > 16384 then
    kind = 'l'
    outcome = ''
  end
  local own = letters and letters[stream] or {}
  for _, part in ipairs({id, place, kind, outcome}) do own[#own + 1] = part end
  if letters then
    letters[stream] = own
  else
    redis.pcall('XADD', stream, 'NOMKSTREAM', 'MAXLEN', '~', 10000, '*', unpack(own))
  end
end

-- Tell the mailbox that a call's caller reads how an input ended, if it is there: it has a lifetime, which nothing
-- here may begin. A large outcome is only announced (l), as its call's outputs have it.
local function tell(call, mailbox, place, kind, outcome)
  local shard, id = call:match('^(.*)call:(.*)$')
  if #outcome > 16384 then
    kind = 'l'
    outcome = ''
  end
  redis.pcall('XADD', shard .. 'replies:' .. mailbox, 'NOMKSTREAM', 'MAXLEN', '~', 10000, '*', id, place, kind, outcome)
end

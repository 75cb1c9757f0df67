-- Append what `reply` has kept to the reply streams, one entry to each.
local function reply_all(replies)
  for _, own in pairs(replies) do
    redis.pcall('XADD', own.stream, 'NOMKSTREAM', 'MAXLEN', '~', 10000, '*', unpack(own))
  end
end

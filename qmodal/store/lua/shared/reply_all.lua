-- Append what `reply` has kept to the reply streams, one entry to each.
local function reply_all(replies)
  for stream, own in pairs(replies) do
    redis.pcall('XADD', stream, 'NOMKSTREAM', 'MAXLEN', '~', 10000, '*', unpack(own))
  end
end

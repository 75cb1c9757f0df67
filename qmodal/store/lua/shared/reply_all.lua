-- Append what `reply` has kept to the reply streams: one entry to each, or several, as Lua can hand only so many
-- values to one command.
local function reply_all(replies)
  for _, own in pairs(replies) do
    for at = 1, #own, 4000 do
      local till = math.min(at + 3999, #own)
      redis.pcall('XADD', own.stream, 'NOMKSTREAM', 'MAXLEN', '~', 10000, '*', unpack(own, at, till))
    end
  end
end

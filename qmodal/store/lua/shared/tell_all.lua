-- Tell mailboxes what `tell` has kept for them, each with one entry.
local function tell_all(letters)
  for stream, own in pairs(letters) do
    redis.pcall('XADD', stream, 'NOMKSTREAM', 'MAXLEN', '~', 10000, '*', unpack(own))
  end
end

-- Append envelopes to a pool's stream, each with the number of inputs that `sizes` says, one if it
-- says nothing. Returns the ids of the first and the last entry.
local function append(inputs, call, index, sizes, envelopes)
  local size = sizes ~= '' and sizes:gmatch('%d+')
  local from, to
  for _, envelope in ipairs(envelopes) do
    local count = size and size() or '1'
    if count == '1' then
      to = redis.call('XADD', inputs, '*', 'e', envelope, 'c', call, 'i', index)
    else
      to = redis.call('XADD', inputs, '*', 'e', envelope, 'c', call, 'i', index, 'r', 0, 'd', 0, 'n', count)
    end
    from = from or to
    index = index + count
  end
  return from, to
end

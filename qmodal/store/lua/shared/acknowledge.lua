-- Acknowledge an entry, or several with blanks between them, each for one of `count` inputs. Returns
-- index and number, one after the other, of each run of inputs whose entries were still held; and all ids.
local function acknowledge(stream, group, entry, index, count)
  local entries = {entry}
  if entry:find(' ', 1, true) then
    entries = {}
    for id in entry:gmatch('%S+') do entries[#entries + 1] = id end
  end
  local held = redis.call('XACK', stream, group, unpack(entries))
  if held == #entries then return {index, count}, entries end
  local runs = {}
  -- Somebody else has had the others. We are the only ones who delete an entry, and only when it is
  -- settled or put back, so what is still there was ours; or nobody's, after a rollback, which is as good.
  for n, id in ipairs(held > 0 and entries or {}) do
    if #redis.call('XRANGE', stream, id, id) > 0 then
      local at = index + n - 1
      local last = #runs
      if last > 0 and runs[last - 1] + runs[last] == at then
        runs[last] = runs[last] + 1
      else
        runs[last + 1] = at
        runs[last + 2] = 1
      end
    end
  end
  return runs, entries
end

-- Whether an entry was written by our scripts, as far as can be seen. What anybody else put into a
-- stream must not stop a script halfway: what it has written until then stays written.
-- A fresh entry is {e, ., c, ., i, .}; the counters that it lacks are filled in. Indexes are counted
-- with, so they have to be short whole numbers, and no pack has a thousand inputs.
local function shaped(fields)
  if #fields == 6 then
    for n, value in ipairs({'r', '0', 'd', '0', 'n', '1'}) do fields[6 + n] = value end
  end
  return #fields == 12 and fields[1] == 'e' and fields[3] == 'c' and fields[5] == 'i'
    and fields[6]:match('^%d+$') and #fields[6] < 15 and tonumber(fields[8]) and tonumber(fields[10])
    and fields[12]:match('^[1-9]%d?%d?$')
end

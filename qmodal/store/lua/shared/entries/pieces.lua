-- What the entry of a dead container comes back as, as fields of each. `charged` is the index of the input
-- that ran: it is charged and alone from now on, as whatever it does must not happen to the others.
-- '*': any may have run; nil: none.
local function pieces(fields, charged)
  local first = tonumber(fields[INDEX])
  local count = tonumber(fields[COUNT])
  local last = first + count - 1
  local found = {}
  local function add(from, to, lost)
    if from <= to then found[#found + 1] = piece(fields, from, to - from + 1, lost) end
  end
  if charged == '*' then
    for index = first, last do add(index, index, 1) end
  elseif charged and count == 1 then
    add(first, first, 1)
  elseif charged and tonumber(charged) >= first and tonumber(charged) <= last then
    local ran = tonumber(charged)
    add(ran, ran, 1)
    add(first, ran - 1, 0)
    add(ran + 1, last, 0)
  else
    add(first, last, 0)
  end
  return found
end

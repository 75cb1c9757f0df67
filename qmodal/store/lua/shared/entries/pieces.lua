-- What the entry of a dead container comes back as. `part`: the input that ran, which is charged
-- and alone from now on, as whatever it does must not happen to the others; '*': any may have run.
local function pieces(fields, part)
  local first, count = tonumber(fields[6]), tonumber(fields[12])
  local found, last = {}, first + count - 1
  local function add(from, to, lost)
    if from <= to then found[#found + 1] = piece(fields, from, to - from + 1, lost) end
  end
  if part == '*' then
    for index = first, last do add(index, index, 1) end
  elseif part and (count == 1 or tonumber(part) >= first and tonumber(part) <= last) then
    part = count == 1 and first or tonumber(part)
    add(part, part, 1)
    add(first, part - 1, 0)
    add(part + 1, last, 0)
  else
    add(first, last, 0)
  end
  return found
end

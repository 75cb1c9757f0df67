-- Whether an entry was written by our scripts, as far as can be seen. What anybody else put into a
-- stream must not stop a script halfway: what it has written until then stays written.
local function shaped(fields)
  return #fields == 12 and fields[1] == 'e' and fields[3] == 'c' and fields[5] == 'i'
    and tonumber(fields[8]) and tonumber(fields[10])
end

-- Whether an entry was written by our scripts, as far as can be seen. What anybody else put into a
-- stream must not stop a script halfway: what it has written until then stays written.
-- Counters that a fresh entry lacks are filled in. Indexes are counted with, so they have to be short
-- whole numbers, and no pack has a thousand inputs.
local function shaped(fields)
  if #fields == FRESH_LENGTH then
    for n, value in ipairs({'r', '0', 'd', '0', 'n', '1'}) do fields[FRESH_LENGTH + n] = value end
  end
  return #fields == LENGTH and fields[ENVELOPE - 1] == 'e' and fields[CALL - 1] == 'c' and fields[INDEX - 1] == 'i'
    and fields[INDEX]:match('^%d+$') and #fields[INDEX] < 15
    and tonumber(fields[RETRIES]) and tonumber(fields[LOST]) and fields[COUNT]:match('^[1-9]%d?%d?$')
end

-- The fields of a member of `delayed`; nil for what none of our scripts has put there.
local function retry_of(member)
  local is_packed, fields = pcall(cmsgpack.unpack, member)
  if not is_packed or type(fields) ~= 'table' then return nil end
  for n = 1, LENGTH do
    if type(fields[n]) ~= 'string' then return nil end
  end
  return shaped(fields) and fields or nil
end

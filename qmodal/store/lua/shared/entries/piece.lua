-- The fields of an entry for some of the inputs of its pack.
local function piece(fields, index, count, lost)
  return {
    'e', fields[2], 'c', fields[4], 'i', tostring(index), 'r', fields[8], 'd', tostring(fields[10] + lost),
    'n', tostring(count),
  }
end

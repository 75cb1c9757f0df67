-- The fields of an entry for `count` inputs of a pack, from `index` on, which lost so many deliveries more.
local function piece(fields, index, count, lost)
  return {
    'e', fields[ENVELOPE], 'c', fields[CALL], 'i', tostring(index), 'r', fields[RETRIES],
    'd', tostring(fields[LOST] + lost), 'n', tostring(count),
  }
end

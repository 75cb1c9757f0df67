-- Tell who runs the script what became of an input, for its log: of a hundred a run, as a reply is to stay short.
local function tell(told, fields, is_lost)
  if #told >= 100 then return end
  told[#told + 1] = {fields[CALL], fields[INDEX], fields[RETRIES], fields[LOST], is_lost and 1 or 0}
end

-- End inputs that no container will finish: tell their caller why and forget them. Of one that people may repeat `most`
-- and `days` say how its arguments are kept.
local function drop(pool, call, fields, reason, most, days)
  tally(pool, 'inflight', -fields[COUNT])
  end_arguments(pool, call, fields[INDEX], most, days)
  record(call, 'x', {fields[INDEX], fields[COUNT], reason})
end

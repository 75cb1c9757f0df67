-- End inputs that no container will finish: tell their caller why and forget them.
local function drop(pool, call, fields, reason)
  tally(pool, 'inflight', -fields[COUNT])
  redis.call('UNLINK', call .. ':blob:' .. fields[INDEX])
  record(call, 'x', {fields[INDEX], fields[COUNT], reason})
end

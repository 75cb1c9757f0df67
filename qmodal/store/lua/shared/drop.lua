-- End inputs that no container will finish: tell their caller why and forget them.
local function drop(pool, call, fields, reason)
  tally(pool, 'inflight', -fields[12])
  redis.call('UNLINK', call .. ':blob:' .. fields[6])
  record(call, 'x', {fields[6], fields[12], reason})
end

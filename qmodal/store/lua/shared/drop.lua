-- End an input that no container will finish: tell its caller why and forget it.
local function drop(pool, call, fields, reason)
  redis.call('HINCRBY', pool, 'inflight', -1)
  redis.call('UNLINK', call .. ':blob:' .. fields[6])
  record(call, 'x', {fields[6], reason})
end

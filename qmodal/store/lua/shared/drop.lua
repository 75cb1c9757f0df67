-- End an input that no container will finish: tell its caller why and forget it.
local function drop(pool, call, fields, reason)
  redis.call('HINCRBY', pool, 'inflight', -1)
  redis.call('UNLINK', call .. ':blob:' .. fields[6])
  record(call, call .. ':outputs', fields[6], 'x', reason)
end

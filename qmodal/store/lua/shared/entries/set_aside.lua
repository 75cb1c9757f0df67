-- Keep an entry that cannot be processed for a person to look at, as much of it as is sensible.
local function set_aside(dead, pool_id, reason, fields)
  redis.pcall('XADD', dead, 'MAXLEN', '~', 10000, '*', 'why', reason, 'pool', pool_id,
    unpack(fields, 1, math.min(#fields, 64)))
end

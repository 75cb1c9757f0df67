-- Remove the arguments that a list of kept ones names with scores up to `till`; returns how many it named.
-- What somebody else has put into the list may name no other keys.
local function forget_arguments(list, shard, till)
  local members = redis.pcall('ZRANGEBYSCORE', list, '-inf', till)
  for _, member in ipairs(members) do
    local name = member:match('^call:%S+:failed:%d+')
    if name then redis.call('UNLINK', shard .. name) end
  end
  redis.pcall('ZREMRANGEBYSCORE', list, '-inf', till)
  return #members
end

-- Remove the arguments of an input that has ended, if they are stored apart. Of one that has failed for good they are
-- kept for some days, so that it can be repeated: in a key of their own, as the call's id may be used again.
-- Of an app `most` bytes are kept in a shard; the oldest make room, all of them if less than a quarter of the server's
-- memory is free.
-- The scores of the app's list say how many bytes were kept before each: so no sum has to be right.
local function end_arguments(pool, call, index, most, days)
  local blob = call .. ':blob:' .. index
  local size = most and most > 0 and tonumber(redis.pcall('STRLEN', blob)) or 0
  local app = size > 0 and size <= most and redis.pcall('HGET', pool, 'app')
  if type(app) ~= 'string' then
    redis.call('UNLINK', blob)
    return
  end
  local shard = pool:match('^(.*)pool:')
  local list = shard .. 'arguments:' .. app
  local last, before = unpack(redis.pcall('ZREVRANGE', list, 0, 0, 'WITHSCORES'))
  local start = (tonumber(before) or 0) + (tonumber((last or ''):match('%d+$')) or 0)
  local memory = redis.pcall('INFO', 'memory')
  memory = type(memory) == 'string' and memory or ''
  local used = tonumber(memory:match('used_memory:(%d+)')) or 0
  local limit = tonumber(memory:match('maxmemory:(%d+)')) or 0
  if limit > 0 and used > limit * 0.75 then most = 0 end
  forget_arguments(list, shard, string.format('(%.0f', start + size - most))
  local kept = call .. ':failed:' .. index
  local member = kept:sub(#shard + 1) .. ' ' .. size
  if size > most or type(redis.pcall('ZADD', list, start, member)) == 'table' then
    redis.call('UNLINK', blob)
    return
  end
  redis.call('RENAME', blob, kept)
  redis.call('EXPIRE', kept, days * 86400)
  redis.call('EXPIRE', list, 2592000) -- as the longest of `days`
end

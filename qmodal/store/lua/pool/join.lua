-- Make a known pool active although nothing was submitted (warm containers), or mend one whose
-- streams were deleted, or replaced by something else. Returns 1, or 0 if the pool is not known.
-- include: join
local pool, inputs, again, active = unpack(KEYS)
local pool_id, group, channel = unpack(ARGV)
-- A key of another type was written by somebody else, and what it held is lost.
local function untangle(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then redis.call('UNLINK', key) end
end
untangle(active, 'zset')
if redis.call('HEXISTS', pool, 'spec') == 0 then return 0 end
untangle(inputs, 'stream')
untangle(again, 'stream')
untangle(pool .. ':delayed', 'zset')
if not join(active, pool, inputs, again, pool_id, group) then
  redis.pcall('XGROUP', 'CREATE', inputs, group, '0', 'MKSTREAM')
  redis.pcall('XGROUP', 'CREATE', again, group, '0', 'MKSTREAM')
end
redis.call('PUBLISH', channel, pool_id)
return 1

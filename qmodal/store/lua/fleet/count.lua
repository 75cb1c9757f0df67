-- Add what one counter has counted of some functions, unless that batch was added before.
-- Beyond `most` functions those go that have changed least lately; `records` begins the names of their hashes.
-- KEYS behind the index are the functions' hashes; ARGV behind the lifetimes has, for each of them, its name in the
-- index, the number of its fields, and these with their amounts. Returns 1, or 0 if the batch was added before.
local counted, index = unpack(KEYS, 1, 2)
local number, keep_counted, keep, most, records = unpack(ARGV, 1, 5)
local FIRST_HASH = 3
local AT_ONCE = 100
local last = redis.pcall('GET', counted)
if type(last) == 'string' and tonumber(last) and tonumber(last) >= tonumber(number) then return 0 end
-- A first write that is refused, for want of memory, leaves nothing half added.
redis.call('SET', counted, number, 'PX', keep_counted)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = 6
for n = FIRST_HASH, #KEYS do
  local name = ARGV[at]
  local fields = tonumber(ARGV[at + 1])
  at = at + 2
  for _ = 1, fields do
    -- What cannot be added to, as it is no number or too large, is left as it is.
    redis.pcall('HINCRBY', KEYS[n], ARGV[at], ARGV[at + 1])
    at = at + 2
  end
  redis.pcall('PEXPIRE', KEYS[n], keep)
  redis.pcall('ZADD', index, now, name)
end
redis.pcall('ZREMRANGEBYSCORE', index, '-inf', now - keep)
local listed = redis.pcall('ZCARD', index)
local surplus = type(listed) == 'number' and listed - tonumber(most) or 0
if surplus > 0 then
  for _, name in ipairs(redis.call('ZRANGE', index, 0, math.min(AT_ONCE, surplus) - 1)) do
    redis.call('UNLINK', records .. name)
    redis.call('ZREM', index, name)
  end
end
redis.pcall('PEXPIRE', index, keep)
return 1

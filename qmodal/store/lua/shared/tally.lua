-- Add to a counter. One that is no number (anybody can write there) begins anew with what is added:
-- the streams are the truth, and a script that stopped here would have lost what it has taken out of them.
-- A pool that nobody opened must not begin with its counter, as it would have no lifetime.
local function tally(key, field, by)
  local sum = redis.pcall('HINCRBY', key, field, by)
  if type(sum) == 'table' then
    sum = math.max(0, tonumber(by))
    redis.call('HSET', key, field, sum)
  elseif sum < 0 and redis.call('HLEN', key) == 1 then
    redis.call('UNLINK', key)
  end
  return sum
end

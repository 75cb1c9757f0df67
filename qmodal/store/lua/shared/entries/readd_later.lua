-- Put an input back in line after `delay` milliseconds; at once, if what waits cannot be written to.
local function readd_later(pool, call, again, delayed, fields, delay)
  if tonumber(delay) == 0 then return readd(pool, call, again, fields) end
  local time = redis.call('TIME')
  local due = time[1] * 1000 + math.floor(time[2] / 1000) + delay
  local added = redis.pcall('ZADD', delayed, due, cmsgpack.pack(fields))
  if type(added) == 'table' then readd(pool, call, again, fields) end
end

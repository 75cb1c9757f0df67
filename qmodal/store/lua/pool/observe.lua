-- Look at pools without changing them; the keys of further ones follow, four each.
-- Returns of each pool nothing if it is unknown, an error if it cannot be read, else its fields, entries
-- of both streams, delayed retries, and the consumers of both streams as XINFO lists them.
local pool, inputs, again, delayed = unpack(KEYS, 1, 4)
local group = unpack(ARGV)
local KEYS_EACH = 4
local function consumers(stream)
  local listed = redis.pcall('XINFO', 'CONSUMERS', stream, group)
  return listed.err and {} or listed
end
local function look()
  local noted = redis.call('HMGET', pool, 'app', 'function', 'label', 'inflight', 'submitted',
    'service_time', 'start_time', 'served', 'paused', 'busy_cpu', 'memory', 'reset')
  local app = unpack(noted)
  if not app then return {} end
  return {
    noted, redis.call('XLEN', inputs) + redis.call('XLEN', again), redis.call('ZCARD', delayed),
    consumers(inputs), consumers(again),
  }
end
local seen = {}
for n = 1, #KEYS, KEYS_EACH do
  pool, inputs, again, delayed = unpack(KEYS, n, n + KEYS_EACH - 1)
  local ok, found = pcall(look)
  seen[#seen + 1] = (ok or type(found) == 'table') and found or redis.error_reply(found)
end
return seen

-- Look at a pool without changing it. Returns nothing for an unknown one, else its fields, entries
-- of both streams, delayed retries, and the consumers of both streams as XINFO lists them.
local pool, inputs, again, delayed = unpack(KEYS)
local group = unpack(ARGV)
local noted = redis.call('HMGET', pool, 'app', 'function', 'label', 'inflight', 'submitted',
  'service_time', 'start_time', 'served', 'paused')
local app = unpack(noted)
if not app then return {} end
local consumers = {}
for lane, stream in ipairs({inputs, again}) do
  local listed = redis.pcall('XINFO', 'CONSUMERS', stream, group)
  consumers[lane] = listed.err and {} or listed
end
return {
  noted, redis.call('XLEN', inputs) + redis.call('XLEN', again), redis.call('ZCARD', delayed),
  consumers[1], consumers[2],
}

-- Merge autoscaler overrides (name, value, …) into those of a pool, each with the time; they live as long as their app.
-- Not if the minimum were above the maximum then; `least` and `most` are those of the function, 0 for no maximum.
-- Returns what they are together, kept or not, in msgpack; nothing if the app is gone.
-- include: server_ms
local app, settings = unpack(KEYS)
local pool_id, channel, least, most = unpack(ARGV)
local left = redis.call('PTTL', app)
if left == -2 then return false end
local is_packed, before = pcall(cmsgpack.unpack, redis.call('HGET', settings, pool_id) or '')
local merged = {}
local now = tonumber(server_ms())
if is_packed and type(before) == 'table' then
  for name, value in pairs(before) do
    local is_setting = type(value) == 'number' and value >= 0 and value < math.huge
    if type(name) == 'string' and is_setting then merged[name] = value end
  end
end
for i = 5, #ARGV, 2 do
  local name = ARGV[i]
  local value = tonumber(ARGV[i + 1])
  if merged[name] ~= value then merged[name .. '_at'] = now end
  merged[name] = value
end
local packed = cmsgpack.pack(merged)
local lower = merged.min_containers or tonumber(least)
local upper = merged.max_containers or tonumber(most)
if #ARGV < 5 or (upper > 0 and lower > upper) then return packed end
redis.call('HSET', settings, pool_id, packed)
if left > 0 then redis.call('PEXPIRE', settings, left) end
redis.call('PUBLISH', channel, pool_id)
return packed

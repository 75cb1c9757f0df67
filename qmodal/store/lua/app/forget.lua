-- Forget an old version of a deployed app, and that the app needs its source bundle, unless another version does.
-- Returns 1, or 0 if it is gone, current or newer.
-- include: discard_code
local app, version = unpack(KEYS)
local app_id, number, keep, code = unpack(ARGV)
local current = tonumber(redis.call('HGET', app, 'version') or 0)
if tonumber(number) >= current or redis.call('EXISTS', version) == 0 then return 0 end
redis.call('UNLINK', version)
local digest = redis.call('HGET', app, 'code:' .. number)
if not digest then return 1 end
redis.call('HDEL', app, 'code:' .. number)
local fields = redis.call('HGETALL', app)
for n = 1, #fields, 2 do
  if fields[n]:find('^code:') and fields[n + 1] == digest then return 1 end
end
discard_code(code .. digest, app_id, keep)
return 1

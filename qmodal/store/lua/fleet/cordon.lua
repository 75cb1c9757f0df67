#!lua flags=allow-oom
-- Cordon a box, drain it (which cordons it, too), or take both back. What it was already stays with its time.
-- Returns since when it is cordoned in ms; 1 if it is not any more; 0 if there is no record of it, or it was given up.
local worker, workers = unpack(KEYS)
local id, how, wake, nudge = unpack(ARGV)
-- include: server_ms
local ends = redis.call('ZSCORE', workers, id)
if not ends or tonumber(ends) == 0 or redis.call('HEXISTS', worker, 'report') == 0 then return 0 end
local since = 1
if how == 'uncordon' then
  redis.call('HDEL', worker, 'cordoned', 'drained')
else
  local now = server_ms()
  redis.call('HSETNX', worker, 'cordoned', now)
  if how == 'drain' then redis.call('HSETNX', worker, 'drained', now) end
  since = tonumber(redis.call('HGET', worker, 'cordoned')) or now
end
redis.call('PUBLISH', wake, '')
redis.call('PUBLISH', nudge, 'assigned')
return since

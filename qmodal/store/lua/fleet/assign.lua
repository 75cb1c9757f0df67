#!lua flags=allow-oom
-- Change what a box should run (container, pool; an empty pool takes it off), unless a newer
-- leader has been elected. A box that has left gets nothing: nobody would delete it again.
-- Returns 1, or 0 if the caller leads no more.
local epochs, workers, assigned = unpack(KEYS)
local epoch, worker, channel = unpack(ARGV)
if redis.call('GET', epochs) ~= epoch then return 0 end
if not redis.call('ZSCORE', workers, worker) then return 1 end
for n = 4, #ARGV, 2 do
  if ARGV[n + 1] == '' then
    redis.call('HDEL', assigned, ARGV[n])
  else
    redis.call('HSET', assigned, ARGV[n], ARGV[n + 1])
  end
end
redis.call('PUBLISH', channel, 'assigned')
return 1

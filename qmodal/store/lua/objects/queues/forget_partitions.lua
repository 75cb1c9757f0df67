-- Forget those of a queue's partitions (the arguments) that are empty. Returns how many.
local object = unpack(KEYS)
local forgotten = 0
for _, partition in ipairs(ARGV) do
  if redis.call('EXISTS', object .. ':items:' .. partition) == 0 then
    forgotten = forgotten + redis.call('HDEL', object, 'p:' .. partition)
  end
end
return forgotten

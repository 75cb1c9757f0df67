-- Remove what a shard keeps of the arguments of an app's failed inputs. Returns how many inputs these were of.
-- include: forget_arguments
local list = unpack(KEYS)
local shard = unpack(ARGV)
local count = forget_arguments(list, shard, '+inf')
redis.call('UNLINK', list)
return count

-- Make an object that has no name yet, or is ephemeral: it lasts for `ttl` ms. `life`: that of an ephemeral one in ms,
-- else 0. Returns 1.
local object = unpack(KEYS)
local record, life, ttl = unpack(ARGV)
redis.call('HSET', object, 'record', record, 'life', life)
redis.call('PEXPIRE', object, ttl)
return 1

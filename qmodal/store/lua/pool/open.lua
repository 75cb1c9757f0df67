-- Make a pool known, so that calls to it are accepted. It stays out of the active ones until
-- there is something to do, and is forgotten after `ttl` milliseconds without.
local pool, active = unpack(KEYS)
local pool_id, spec, app, tag, label, ttl = unpack(ARGV)
redis.call('HSET', pool, 'spec', spec, 'app', app, 'function', tag, 'label', label)
if not redis.call('ZSCORE', active, pool_id) then redis.call('PEXPIRE', pool, ttl) end
return 'OK'

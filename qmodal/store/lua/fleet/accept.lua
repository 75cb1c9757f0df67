-- Accept a signing key if none was accepted before: of two that come at once, one is foreign.
-- Returns the accepted ones (key id, fingerprint).
local signing = unpack(KEYS)
local key_id, fingerprint = unpack(ARGV)
if redis.call('EXISTS', signing) == 0 then redis.call('HSET', signing, key_id, fingerprint) end
return redis.call('HGETALL', signing)

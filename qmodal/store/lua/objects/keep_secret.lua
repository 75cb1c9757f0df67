-- Keep the record of a secret, if the record there is `before` (empty: none). Returns 1, or 0 if it is another one.
local secrets = unpack(KEYS)
local field, before, record = unpack(ARGV)
local now = redis.call('HGET', secrets, field) or ''
if now ~= before then return now == record and 1 or 0 end
redis.call('HSET', secrets, field, record)
return 1

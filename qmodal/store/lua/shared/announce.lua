-- Hint at a pool that was given inputs, once in 50 ms, and always if it was not active; not at a
-- lone input for which a container is ready: that is no news to the autoscaler.
local function announce(pool, marker, channel, pool_id, inflight, joined)
  if not joined and inflight == 1 and redis.call('HGET', pool, 'served') == '1' then return end
  if redis.call('SET', marker, 1, 'NX', 'PX', 50) or joined then redis.call('PUBLISH', channel, '+' .. pool_id) end
end

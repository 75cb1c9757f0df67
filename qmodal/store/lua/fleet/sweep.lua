#!lua flags=allow-oom
-- Give up boxes whose lease has ended; from now on they cannot renew. Takes worker and end of its lease, as it
-- was seen, of each: a box that has renewed since then is left alone. Gives up nobody when run after server
-- time `latest` (ms, 0: any time): after a pause of the server all leases look ended.
-- Returns worker and the time (ms) at which it was given up of each, and of those that were given up earlier.
local workers = unpack(KEYS)
local records, latest = unpack(ARGV)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local is_late = latest ~= '0' and now > tonumber(latest)
local lost = {}
for n = 3, #ARGV, 2 do
  local worker = ARGV[n]
  local ends = tonumber(ARGV[n + 1])
  local score = tonumber(redis.call('ZSCORE', workers, worker) or -1)
  if score == 0 or score == ends and ends <= now and not is_late then
    redis.call('ZADD', workers, 'XX', 0, worker)
    -- Whatever is put back in line from here on was not lost with this box.
    redis.pcall('HSETNX', records .. worker, 'lost', now)
    local since = redis.pcall('HGET', records .. worker, 'lost')
    lost[#lost + 1] = worker
    lost[#lost + 1] = type(since) == 'string' and tonumber(since) or now
  end
end
return lost

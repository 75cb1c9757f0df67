#!lua flags=allow-oom
-- A container of version `number` is about to claim from its pool: note that version as the newest one that does.
-- Returns OLD if a newer one does already; else the other consumers of both streams, as long as some of them may
-- be of older versions: none once `replaced` says that none of these starts anything any more.
local pool, inputs, again = unpack(KEYS)
local group, number, container = unpack(ARGV)
number = tonumber(number)
local known, noted, before = unpack(redis.call('HMGET', pool, 'spec', 'newest', 'replaced'))
if not known then return {} end
local newest = tonumber(noted or 0) or 0
if newest > number then return 'OLD' end
if newest < number then redis.call('HSET', pool, 'newest', number) end
if number == 1 or (tonumber(before or 0) or 0) >= number then return {} end -- nothing older is left
local others = {}
local seen = {[container] = true}
for _, stream in ipairs({inputs, again}) do
  local listed = redis.pcall('XINFO', 'CONSUMERS', stream, group)
  for _, about in ipairs(listed.err and {} or listed) do
    local name = about[2]
    if not seen[name] then others[#others + 1] = name end
    seen[name] = true
  end
end
if #others == 0 then redis.call('HSET', pool, 'replaced', number) end
return others

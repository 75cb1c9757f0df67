-- End some inputs of a pack and put others back in line, if `consumer` still holds its entry.
-- The entry goes on standing for the input `keep`, or is consumed if that is empty.
-- Takes `ended` times (index, count, outcome), then (index, count, retries more, delay in ms) each.
-- Returns 1, or 0 if somebody else owns the inputs now.
-- include: fields, tally, reply, record, forget_arguments, end_arguments, drop, readd, readd_later, shaped, piece
local pool, inputs, again, delayed, call = unpack(KEYS)
local group, consumer, lane, entry, keep, channel, pool_id, ended = unpack(ARGV)
local NAMED = 8 -- arguments
local stream = lane == '1' and inputs or again
local found = redis.call('XRANGE', stream, entry, entry)
local fields = found[1] and found[1][2]
if not fields or not shaped(fields) then return 0 end
if not redis.call('XPENDING', stream, group, entry, entry, 1, consumer)[1] then return 0 end
local note = 'kept:' .. lane .. ':' .. entry
-- It was split before; or it is one input, of which a note would stay, as `narrow` looks for none.
if redis.call('HEXISTS', pool, note) == 1 or keep ~= '' and fields[COUNT] == '1' then return 1 end
if keep ~= '' then
  redis.call('HDEL', pool, note) -- a first write that a full server allows: results are to be kept
  redis.call('HSET', pool, note, keep)
else
  redis.call('XACK', stream, group, entry)
  redis.call('XDEL', stream, entry)
  if lane == '2' then redis.pcall('SREM', call .. ':moved', entry) end
end
local last = NAMED + 3 * ended
local outcomes = {}
for n = NAMED + 1, last do outcomes[#outcomes + 1] = ARGV[n] end
local done = 0
for n = 2, #outcomes, 3 do done = done + outcomes[n] end
if done > 0 then
  record(call, 'o', outcomes)
  tally(pool, 'inflight', -done)
end
for n = last + 1, #ARGV, 4 do
  local index, count, retries, delay = unpack(ARGV, n, n + 3)
  local part = piece(fields, index, count, 0)
  part[RETRIES] = tostring(part[RETRIES] + retries)
  readd_later(pool, call, again, delayed, part, delay)
end
redis.call('PUBLISH', channel, pool_id)
return 1

-- Put an input back in line, ahead of what was never delivered, and note where it went so that
-- cancel finds it. One whose call has ended is dropped: it would run after its cancellation. So is
-- a generator that has produced: its reader would get the first items twice.
-- It was taken out of its stream before, so nothing here may stop the script, whatever a foreign
-- entry calls its call.
local function readd(pool, call, again, fields)
  local state, made = unpack(redis.pcall('HMGET', call, 'state', 'made:' .. fields[INDEX]))
  if state ~= 'open' or made then
    return drop(pool, call, fields, 'a generator that has produced items does not run again')
  end
  local entry = redis.pcall('XADD', again, '*', unpack(fields))
  if type(entry) == 'table' then return drop(pool, call, fields, 'its pool cannot be written to') end
  redis.pcall('SADD', call .. ':moved', entry)
end

-- Whether the server has a limit of memory, and more than three quarters of that are used.
local function is_filling()
  local about = redis.pcall('INFO', 'memory')
  if type(about) ~= 'string' then return false end
  local used = about:match('used_memory:(%d+)')
  local most = about:match('maxmemory:(%d+)')
  return used and most and tonumber(most) > 0 and tonumber(used) > most * 0.75
end

-- Take apps that are not deployed any more off those that need a source bundle. Takes the records of the apps behind
-- the named keys, and their ids behind the named arguments. Returns how many were taken off.
-- include: discard_code
local code = unpack(KEYS, 1, 1)
local keep = unpack(ARGV, 1, 1)
local count = 0
for n = 2, #KEYS do
  if redis.call('HGET', KEYS[n], 'state') ~= 'deployed' then
    discard_code(code, ARGV[n], keep)
    count = count + 1
  end
end
if #KEYS == 1 then discard_code(code, '', keep) end
return count

-- Put an input back in line, ahead of what was never delivered, and note where it went so that
-- cancel finds it. The fields are {e, ., c, ., i, ., r, ., d, ., at, .}.
local function readd(again, moved, fields)
  redis.call('SADD', moved, redis.call('XADD', again, '*', unpack(fields)))
end

-- Where the values of an entry stand in its fields, {e, ., c, ., i, ., r, ., d, ., n, .}; the name of each
-- value stands one before it. An entry that was never given back has the first three only.
local ENVELOPE = 2
local CALL = 4
local INDEX = 6 -- of the first of its inputs
local RETRIES = 8 -- used so far
local LOST = 10 -- deliveries, to containers that died
local COUNT = 12 -- how many inputs it stands for
local FRESH_LENGTH = 6
local LENGTH = 12

-- Each script is one Lua 5.1 chunk; `shared/` holds the functions and names that several of them include.
std = "lua51"
read_globals = { "redis", "KEYS", "ARGV", "cmsgpack" }
max_line_length = 120
local fields = { "ENVELOPE", "CALL", "INDEX", "RETRIES", "LOST", "COUNT", "FRESH_LENGTH", "LENGTH" }
files["qmodal/store/lua/shared/**/*.lua"].ignore = { "211" } -- used by whoever includes them
files["qmodal/store/lua/**/*.lua"].read_globals = {
  "acknowledge", "acknowledge_ones", "announce", "append", "discard_code", "discard_routes", "drop", "end_arguments",
  "expire_entries", "forget_arguments",
  "has_entry", "join", "keep_code", "keep_entries", "narrow", "piece", "pieces",
  "readd", "readd_later", "record", "reply", "reply_all", "retry_of", "server_ms", "set_aside", "shaped", "tally", "tell", "use_entries",
  unpack(fields),
}
files["qmodal/store/lua/shared/drop.lua"].read_globals = { "end_arguments", "record", "tally", unpack(fields) }
files["qmodal/store/lua/shared/arguments/*.lua"].read_globals = { "forget_arguments" }
files["qmodal/store/lua/shared/record.lua"].read_globals = { "tally", "reply" }
files["qmodal/store/lua/shared/objects/keep_entries.lua"].read_globals = { "expire_entries" }
files["qmodal/store/lua/shared/objects/use_entries.lua"].read_globals = { "keep_entries" }
files["qmodal/store/lua/shared/entries/*.lua"].read_globals = { "drop", "piece", "readd", "shaped", unpack(fields) }

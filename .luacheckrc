-- Each script is one Lua 5.1 chunk; `shared/` holds the functions that several of them include.
std = "lua51"
read_globals = { "redis", "KEYS", "ARGV", "cmsgpack" }
max_line_length = 120
files["qmodal/store/lua/shared/**/*.lua"].ignore = { "211" } -- used by whoever includes them
files["qmodal/store/lua/**/*.lua"].read_globals = {
  "acknowledge", "announce", "append", "discard", "drop", "join", "keep", "kept", "piece", "pieces", "readd", "record",
  "retry_of", "set_aside", "shaped", "tally", "wait",
}
files["qmodal/store/lua/shared/drop.lua"].read_globals = { "record", "tally" }
files["qmodal/store/lua/shared/record.lua"].read_globals = { "tally" }
files["qmodal/store/lua/shared/entries/retry_of.lua"].read_globals = { "shaped" }
files["qmodal/store/lua/shared/entries/readd.lua"].read_globals = { "drop" }
files["qmodal/store/lua/shared/entries/pieces.lua"].read_globals = { "piece" }
files["qmodal/store/lua/shared/entries/wait.lua"].read_globals = { "readd" }

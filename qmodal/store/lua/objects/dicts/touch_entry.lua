#!lua flags=allow-oom
-- Note that an entry of a dictionary was read now. Returns 1, or 0 if its time was over: it is removed.
-- include: expire_entries, has_entry, keep_entries, use_entries
local object, entries, used = unpack(KEYS)
local hours, key = unpack(ARGV)
if not has_entry(entries, used, hours, key) then return 0 end
return use_entries(object, entries, used, hours, {key}) and 1 or 0

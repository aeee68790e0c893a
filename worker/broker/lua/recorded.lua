-- Entries of the history that are written, or left out for good: acknowledged, removed, and no longer counted.
-- ARGV: group, number of jobs that were left out, then id and bytes of each entry.
-- Returns how many entries were there to remove. Run twice, the second time finds none and counts nothing.

local group, left_out = ARGV[1], tonumber(ARGV[2])
if not left_out then return redis.error_reply('ERR the second argument must be a number') end
for i = 4, #ARGV, 2 do
  if not tonumber(ARGV[i]) then return redis.error_reply("ERR an entry's bytes must be a number") end
end

local removed, bytes = 0, 0
for i = 3, #ARGV, 2 do
  redis.call('XACK', RECORDS, group, ARGV[i])
  if redis.call('XDEL', RECORDS, ARGV[i]) == 1 then
    removed = removed + 1
    bytes = bytes + tonumber(ARGV[i + 1])
  end
end
if redis.call('XLEN', RECORDS) == 0 then
  redis.call('SET', RECORDS_BYTES, 0)
elseif bytes > 0 and add_to(RECORDS_BYTES, -bytes) < 0 then
  redis.call('SET', RECORDS_BYTES, 0)
end
if removed > 0 and left_out > 0 then add_to(RECORDS_LEFT_OUT, left_out) end
return removed

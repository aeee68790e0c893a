-- Entries of the history for one of its writers: its pending ones, then those it adopts from writers that died
-- (XAUTOCLAIM), then new ones; until their bytes are enough, so that what a writer holds is bounded whatever jobs
-- returned. Read one at a time, as XREADGROUP counts entries, not bytes.
-- ARGV: group, writer, most entries, most bytes, largest entry in bytes, ms after which an entry is adopted.
-- Returns the number of entries that were dropped while they were pending, then a list of id, bytes, JSON ('' where it is
-- larger than the largest). Run twice, it returns the same entries again.

local group, writer = ARGV[1], ARGV[2]
local most, most_bytes, largest, adopt_after = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
if not (most and most_bytes and largest and tonumber(adopt_after)) then
  return redis.error_reply('ERR the arguments from the third on must be numbers')
end

local taken, count, bytes, gone, seen = {}, 0, 0, 0, {}

local function has_room()
  return count < most and bytes < most_bytes
end

local function take(entry)
  local id, fields = entry[1], entry[2]
  if seen[id] then return end
  seen[id] = true
  if not fields or #fields == 0 then
    gone = gone + 1
    redis.call('XACK', RECORDS, group, id)
    return
  end
  local json = ''
  for i = 1, #fields, 2 do
    if fields[i] == 'e' then json = fields[i + 1] end
  end
  local size = #json
  if size > largest then json = '' end
  for _, part in ipairs({id, size, json}) do taken[#taken + 1] = part end
  count, bytes = count + 1, bytes + #json
end

local function read(from)
  return redis.pcall('XREADGROUP', 'GROUP', group, writer, 'COUNT', 1, 'STREAMS', RECORDS, from)
end

local cursor = '0'
while has_room() do
  local answer = read(cursor)
  if answer and answer.err then
    if not string.find(answer.err, 'NOGROUP', 1, true) then return answer end
    redis.call('XGROUP', 'CREATE', RECORDS, group, '0', 'MKSTREAM')
  else
    local entry = answer and answer[1][2][1]
    if not entry then break end
    take(entry)
    cursor = entry[1]
  end
end

cursor = '0-0'
for _ = 1, most do
  if not has_room() then break end
  local answer = redis.call('XAUTOCLAIM', RECORDS, group, writer, adopt_after, cursor, 'COUNT', 1)
  for _, entry in ipairs(answer[2]) do
    if entry then take(entry) end
  end
  if answer[3] then gone = gone + #answer[3] end
  cursor = answer[1]
  if cursor == '0-0' then break end
end

while has_room() do
  local answer = read('>')
  if not answer then break end
  if answer.err then return answer end
  take(answer[1][2][1])
end

return {gone, taken}

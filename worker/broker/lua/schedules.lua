-- Read schedules.
-- ARGV  1 'due' for those whose time has come, 'all', or 'one', 2 most of them, or the name of the one
-- returns  now in ms, next time of any that is not due yet or -1, then 5 per schedule: name, what it is as JSON, next time in
--          ms or -1, its last run ('' or time in ms and id of the job), 1 if it is paused
local now, names = now_ms(), {}
if ARGV[1] == 'due' then
  names = own('ZRANGEBYSCORE', SCHEDULES_DUE, '-inf', now, 'LIMIT', 0, ARGV[2])
elseif ARGV[1] == 'one' then
  names = {ARGV[2]}
else
  names = own('HKEYS', SCHEDULES)
end
local after = own('ZRANGEBYSCORE', SCHEDULES_DUE, '(' .. whole(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local found = {whole(now), after[2] and whole(bounded(after[2], 0, MOST_MS, now)) or '-1'}
for _, name in ipairs(names) do
  local record = own('HGET', SCHEDULES, name)
  if record then
    local due = own('ZSCORE', SCHEDULES_DUE, name)
    found[#found + 1] = name
    found[#found + 1] = record
    found[#found + 1] = due and whole(bounded(due, 0, MOST_MS, now)) or '-1'
    found[#found + 1] = own('HGET', SCHEDULES_LAST, name) or ''
    found[#found + 1] = own('SISMEMBER', SCHEDULES_PAUSED, name)
  else
    own('ZREM', SCHEDULES_DUE, name)
  end
end
return found

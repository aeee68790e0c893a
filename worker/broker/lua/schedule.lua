-- Make, change, pause, resume or drop schedules.
-- ARGV  1 'declare', 'create', 'pause', 'resume' or 'drop', then 3 per schedule: name, what it is as JSON, next time in
--       ms ('' for none); the last two count for declare, create and resume
-- returns  per schedule: 1 changed, 0 not: it was so already, or there is none, or 'create' found another one
-- Run twice it changes nothing more. A declaration that is as before keeps its next time, so that runs that were
-- missed meanwhile are seen.
local action, answers = ARGV[1], {}

local function set_due(name, at)
  if at ~= '' and own('SISMEMBER', SCHEDULES_PAUSED, name) == 0 then
    own('ZADD', SCHEDULES_DUE, at, name)
  end
end

local function change(name, record, at)
  local known = own('HGET', SCHEDULES, name)
  if action == 'declare' or action == 'create' then
    if known == record or (known and action == 'create') then return known == record and action == 'create' end
    redis.call('HSET', SCHEDULES, name, record)
    own('ZREM', SCHEDULES_DUE, name)
    set_due(name, at)
  elseif not known then
    return false
  elseif action == 'pause' then
    own('ZREM', SCHEDULES_DUE, name)
    return own('SADD', SCHEDULES_PAUSED, name) == 1
  elseif action == 'resume' then
    if own('SREM', SCHEDULES_PAUSED, name) == 0 then return false end
    set_due(name, at)
  else
    redis.call('HDEL', SCHEDULES, name)
    own('HDEL', SCHEDULES_LAST, name)
    own('HDEL', SCHEDULES_STARTED, name)
    own('ZREM', SCHEDULES_DUE, name)
    own('SREM', SCHEDULES_PAUSED, name)
  end
  return true
end

for i = 2, #ARGV, 3 do answers[#answers + 1] = change(ARGV[i], ARGV[i + 1], ARGV[i + 2]) and 1 or 0 end
return answers

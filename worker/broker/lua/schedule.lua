-- Make, change, pause, resume or drop schedules.
-- ARGV  1 'declare', 'create', 'pause', 'resume' or 'drop', then 3 per schedule: name, what it is as JSON, next time in
--       ms ('' for none); the last two count for declare, create and resume
-- returns  per schedule: 1 changed, 0 not: it was so already, or there is none, or 'create' found another one
-- Run twice it changes nothing more. A declaration that is as before keeps its next time, so that runs that were
-- missed meanwhile are seen.
local action, answers = ARGV[1], {}

local function set_due(name, at)
  if at ~= '' and redis.call('SISMEMBER', SCHEDULES_PAUSED, name) == 0 then
    redis.call('ZADD', SCHEDULES_DUE, at, name)
  end
end

local function change(name, record, at)
  local known = redis.call('HGET', SCHEDULES, name)
  if action == 'declare' or action == 'create' then
    if known == record or (known and action == 'create') then return known == record and action == 'create' end
    redis.call('HSET', SCHEDULES, name, record)
    redis.call('ZREM', SCHEDULES_DUE, name)
    set_due(name, at)
  elseif not known then
    return false
  elseif action == 'pause' then
    redis.call('ZREM', SCHEDULES_DUE, name)
    return redis.call('SADD', SCHEDULES_PAUSED, name) == 1
  elseif action == 'resume' then
    if redis.call('SREM', SCHEDULES_PAUSED, name) == 0 then return false end
    set_due(name, at)
  else
    redis.call('HDEL', SCHEDULES, name)
    redis.call('HDEL', SCHEDULES_LAST, name)
    redis.call('ZREM', SCHEDULES_DUE, name)
    redis.call('SREM', SCHEDULES_PAUSED, name)
  end
  return true
end

for i = 2, #ARGV, 3 do answers[#answers + 1] = change(ARGV[i], ARGV[i + 1], ARGV[i + 2]) and 1 or 0 end
return answers

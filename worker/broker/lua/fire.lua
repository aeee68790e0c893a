-- Fire schedules, each time once: the first worker that brings the due time queues the job and sets the next time. All
-- workers do so; the comparison with the stored time makes it a compare-and-set, so no leader is needed.
-- ARGV  8 per time: schedule, time that is due in ms ('' for the start of a worker: of those within a minute the first
--       fires, and no time changes), next time in ms ('' for none), 1 to queue nothing while the schedule's last job lives,
--       id of the job ('' to queue none), its queue, its due time in ms, its payload
-- returns  per time: 1 fired, 0 another did it, or it is paused or gone, or what is wrong with it as a text
-- Each time is checked before anything of it is written; what is wrong with one touches no other, and it stays due.
-- Run twice it fires nothing more.
local now, answers = now_ms(), {}

local function wrong_with(due, following, id, queue, at, payload)
  if (due ~= '' and not is_ms(due)) or (following ~= '' and not is_ms(following)) then
    return 'its times must be between 1970 and 9999'
  end
  if id == '' then return end
  if #id > ID_BYTES then return "its job's id must have at most " .. ID_BYTES .. ' bytes' end
  if not is_ms(at) then return "its job's time must be between 1970 and 9999" end
  if not may_hold_jobs(queue) then return printable(queue) .. ' must be a queue, and holds something else in this Redis' end
  if not string.find(payload, '^{.*}$') then return "its job's payload must be a JSON object" end
end

-- Whether the time that is due is still this one; if so, the next one takes its place.
local function takes_turn(name, due, following)
  if tonumber(own('ZSCORE', SCHEDULES_DUE, name) or -1) ~= tonumber(due) then return false end
  if following == '' then
    redis.call('ZREM', SCHEDULES_DUE, name)
  else
    redis.call('ZADD', SCHEDULES_DUE, following, name)
  end
  return true
end

-- Whether this start of a worker is the first of those that come together.
local function is_first_start(name)
  if own('HEXISTS', SCHEDULES, name) == 0 or own('SISMEMBER', SCHEDULES_PAUSED, name) == 1 then return false end
  local last = bounded(own('HGET', SCHEDULES_STARTED, name), 0, MOST_MS, 0)
  if last <= now and now - last < STARTS_APART_MS then return false end
  redis.call('HSET', SCHEDULES_STARTED, name, whole(now))
  return true
end

local function fire(name, due, following, alone, id, queue, at, payload)
  local wrong = wrong_with(due, following, id, queue, at, payload)
  if wrong then return wrong end
  local mine = false
  if due == '' then mine = is_first_start(name) else mine = takes_turn(name, due, following) end
  if not mine then return 0 end
  local last = string.match(own('HGET', SCHEDULES_LAST, name) or '', '^%d+ (.*)$')
  local busy = alone == '1' and last and redis.call('EXISTS', JOB .. last) == 1
  if id ~= '' and not busy and not is_taken(id) then
    put(id, queue, tonumber(at), now, payload)
    redis.call('HSET', SCHEDULES_LAST, name, whole(tonumber(due) or now) .. ' ' .. id)
  end
  return 1
end

for i = 1, #ARGV, 8 do answers[#answers + 1] = fire(unpack(ARGV, i, i + 7)) end
put_all()
tell()
return answers

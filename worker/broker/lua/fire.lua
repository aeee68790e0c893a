-- Fire schedules, each time once: who comes first with the time that is due queues the job and sets the next time.
-- ARGV  8 per time: schedule, time that is due in ms ('' for the start of a worker: of those within a minute the first
--       fires, and no time changes), next time in ms ('' for none), 1 to queue nothing while the schedule's last job lives,
--       id of the job ('' to queue none), its queue, its due time in ms, its payload
-- returns  per time: 1 fired, 0 another did it, or it is paused or gone
-- Run twice it fires nothing more.
local now, answers = now_ms(), {}

local function wrong_with(due, following, id, queue, at, payload)
  if (due ~= '' and not is_ms(due)) or (following ~= '' and not is_ms(following)) then return 'a time' end
  if id ~= '' and (#id > ID_BYTES or not may_hold_jobs(queue) or not is_ms(at)) then return 'a job' end
  if id ~= '' and not string.find(payload, '^{.*}$') then return 'a payload' end
end

for i = 1, #ARGV, 8 do
  local wrong = wrong_with(ARGV[i + 1], ARGV[i + 2], unpack(ARGV, i + 4, i + 7))
  if wrong then return redis.error_reply(REFUSED .. ' schedule ' .. ARGV[i] .. ': ' .. wrong .. ' is wrong') end
end

-- Whether the time that is due is still this one, which is over then.
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

for i = 1, #ARGV, 8 do
  local name, due, following, alone, id = unpack(ARGV, i, i + 4)
  local mine = false
  if due == '' then mine = is_first_start(name) else mine = takes_turn(name, due, following) end
  if mine then
    local last = string.match(own('HGET', SCHEDULES_LAST, name) or '', '^%d+ (.*)$')
    local busy = alone == '1' and last and redis.call('EXISTS', JOB .. last) == 1
    if id ~= '' and not busy and not is_taken(id) then
      put(id, ARGV[i + 5], tonumber(ARGV[i + 6]), now, ARGV[i + 7])
      redis.call('HSET', SCHEDULES_LAST, name, whole(tonumber(due) or now) .. ' ' .. id)
    end
  end
  answers[#answers + 1] = mine and 1 or 0
end
put_all()
tell()
return answers

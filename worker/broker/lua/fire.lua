-- Fire schedules, each time once: who comes first with the time that is due queues the job and sets the next time.
-- ARGV  8 per time: schedule, time that is due in ms, next time in ms ('' for none), 1 to queue nothing while the
--       schedule's last job lives, id of the job ('' to queue none), its queue, its due time in ms, its payload
-- returns  per time: 1 fired, 0 another did it, or it is paused or gone
-- Run twice it fires nothing more.
local now, answers = now_ms(), {}

local function wrong_with(due, following, id, queue, at, payload)
  if not is_ms(due) or (following ~= '' and not is_ms(following)) then return 'a time' end
  if id ~= '' and (#id > ID_BYTES or not is_queue(queue) or not is_ms(at)) then return 'a job' end
  if id ~= '' and not string.find(payload, '^{.*}$') then return 'a payload' end
end

for i = 1, #ARGV, 8 do
  local wrong = wrong_with(ARGV[i + 1], ARGV[i + 2], unpack(ARGV, i + 4, i + 7))
  if wrong then return redis.error_reply(REFUSED .. ' schedule ' .. ARGV[i] .. ': ' .. wrong .. ' is wrong') end
end

for i = 1, #ARGV, 8 do
  local name, due, following, alone, id = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local mine = tonumber(own('ZSCORE', SCHEDULES_DUE, name) or -1) == due
  if mine then
    if following == '' then
      redis.call('ZREM', SCHEDULES_DUE, name)
    else
      redis.call('ZADD', SCHEDULES_DUE, following, name)
    end
    local last = string.match(own('HGET', SCHEDULES_LAST, name) or '', '^%d+ (.*)$')
    local busy = alone == '1' and last and redis.call('EXISTS', JOB .. last) == 1
    if id ~= '' and not busy and not is_taken(id) then
      put(id, ARGV[i + 5], tonumber(ARGV[i + 6]), now, ARGV[i + 7])
      redis.call('HSET', SCHEDULES_LAST, name, whole(due) .. ' ' .. id)
    end
  end
  answers[#answers + 1] = mine and 1 or 0
end
put_all()
tell()
return answers

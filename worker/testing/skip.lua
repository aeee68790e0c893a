-- Skip to the time at which the next jobs are due: those of the earliest moment, and of the second after it, become due
-- now, in their order. Nothing happens while a job is due already, or runs: what it queues next may be earlier.
-- KEYS  queues (sorted sets)
-- ARGV  1 prefix of leases, 2 the score of jobs that wait for a limit, 3 most ids that are looked at in a queue
-- returns  how many jobs were brought forward
-- Run twice, the second run finds them due and changes nothing.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local TOGETHER = 1000 -- ms: jobs deferred in one go by the same time differ by a few; they must come due in one batch
local waiting, earliest = {}, nil

for _, queue in ipairs(KEYS) do
  if #redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', 0, 1) > 0 then return 0 end
  local later = redis.call('ZRANGEBYSCORE', queue, '(' .. now, '(' .. ARGV[2], 'WITHSCORES', 'LIMIT', 0, ARGV[3])
  for i = 1, #later, 2 do
    if redis.call('EXISTS', ARGV[1] .. later[i]) == 1 then return 0 end
    local due = tonumber(later[i + 1])
    waiting[#waiting + 1] = {queue, later[i], due}
    earliest = math.min(earliest or due, due)
  end
end

local moved = 0
for _, job in ipairs(waiting) do
  local behind = job[3] - earliest
  if behind <= TOGETHER then
    redis.call('ZADD', job[1], string.format('%.0f', now - TOGETHER + behind), job[2])
    moved = moved + 1
  end
end
return moved

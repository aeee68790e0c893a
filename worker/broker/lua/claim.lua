-- Take due jobs under a lease: the id stays in its queue, with the lease's end as its score.
-- KEYS  queues (sorted sets) in the order to serve them
-- ARGV  1 worker id, 2 number of this claim, 3 lease in ms, 4 most jobs to take, 5 most held ids to step over
-- returns  now in ms, next due time in ms or -1, 1 if more is due, then 6 per job: id, queue, payload ('' if gone),
--          tries with this one, leases lost in a row, 1 if it was aborted before its start
-- Run twice it takes other jobs: an answer that got lost leaves its jobs leased until the lease ends.
local now = now_ms()
local worker, lease_ms = ARGV[1], tonumber(ARGV[3])
local limit, steps = tonumber(ARGV[4]), tonumber(ARGV[5])
local token = TOKEN .. worker .. ':' .. ARGV[2]
local lease_end = whole(now + lease_ms)
local aborting = redis.call('EXISTS', ABORT) == 1
local claimed = {0, -1, 0}
local taken = 0

local function take(id, queue)
  local run = redis.call('HMGET', RUN .. id, 'state', 'lost', 'worker', 'started')
  local lost = tonumber(run[2] or 0) or 0
  local try = (tonumber(text(TRIES .. id) or 0) or 0) + 1
  if run[1] == 'running' then
    lost = lost + 1
    remember_try(id, string.format('{"n":%d,"w":%s,"st":%s,"o":"lost"}', try - 1, cjson.encode(run[3]), run[4]))
  end
  redis.call('SET', LEASE .. id, token, 'PX', whole(lease_ms))
  redis.call('ZADD', queue, lease_end, id)
  redis.call('SET', TRIES .. id, whole(try))
  redis.call('HSET', RUN .. id, 'state', 'running', 'worker', worker, 'started', whole(now), 'lost', lost,
    'queue', queue)
  event(lost > 0 and run[1] == 'running' and 'restarted' or 'started', id, queue, worker, try)
  local aborted = aborting and redis.call('ZSCORE', ABORT, id) and 1 or 0
  for _, value in ipairs({id, queue, text(JOB .. id) or '', try, lost, aborted}) do
    claimed[#claimed + 1] = value
  end
  taken = taken + 1
end

-- A due id whose lease lives was re-scored from outside, as plain arq's Job.abort does: tell its worker, and put
-- the score back. Without an abort entry (arq writes it a moment later) look again soon.
local function restore(id, queue, holder)
  local left = redis.call('PTTL', LEASE .. id)
  if left < 0 then left = lease_ms end
  left = math.max(1, left) -- in its last millisecond: never due again within this call
  if aborting and redis.call('ZSCORE', ABORT, id) then
    local control = CONTROL .. string.match(holder, '^' .. TOKEN .. '([^:]*)')
    redis.call('RPUSH', control, 'abort ' .. id)
    redis.call('PEXPIRE', control, 60000)
  else
    left = math.min(left, 500)
  end
  redis.call('ZADD', queue, whole(now + left), id)
end

for _, queue in ipairs(KEYS) do
  local skipped = 0
  while taken < limit and skipped <= steps do
    local ids = redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', skipped, limit - taken)
    if #ids == 0 then break end
    for _, id in ipairs(ids) do
      local holder = text(LEASE .. id)
      if not holder then
        take(id, queue)
      elseif string.sub(holder, 1, #TOKEN) == TOKEN then
        restore(id, queue, holder)
      else
        skipped = skipped + 1 -- a plain arq worker runs it; its score is not ours to change
      end
    end
  end
  if taken >= limit and #redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', skipped, 1) > 0 then
    claimed[3] = 1
    wake(queue)
  end
  local after = redis.call('ZRANGEBYSCORE', queue, '(' .. whole(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  local due = tonumber(after[2] or -1)
  if due > 0 and (claimed[2] < 0 or due < claimed[2]) then claimed[2] = due end
end
claimed[1] = whole(now)
claimed[2] = whole(claimed[2])
return claimed

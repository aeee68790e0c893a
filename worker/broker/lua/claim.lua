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
local lease_end, lease_life = whole(now + lease_ms), whole(lease_ms)
local aborting = redis.call('EXISTS', ABORT) == 1
local claimed = {0, -1, 0}
local taken = 0
local scores, records = {}, {}

local function take(id, queue, tries, payload)
  local try, lost, name = (tonumber(tries or 0) or 0) + 1, 0, 'started'
  if try > 1 then
    local state, before, started, lost_before = read_run(id)
    if state == 'running' then
      name, lost = 'restarted', lost_before + 1
      remember_try(id, '{"n":' .. try - 1 .. ',"w":' .. cjson.encode(before) .. ',"st":' .. started .. ',"o":"lost"}')
    end
  end
  redis.call('SET', LEASE .. id, token, 'PX', lease_life)
  scores[#scores + 1] = lease_end
  scores[#scores + 1] = id
  records[#records + 1] = TRIES .. id
  records[#records + 1] = try
  records[#records + 1] = RUN .. id
  records[#records + 1] = run_record('running', worker, whole(now), lost)
  event(name, id, queue, worker, try)
  local aborted = aborting and redis.call('ZSCORE', ABORT, id) and 1 or 0
  local n = #claimed
  claimed[n + 1], claimed[n + 2], claimed[n + 3] = id, queue, payload or ''
  claimed[n + 4], claimed[n + 5], claimed[n + 6] = try, lost, aborted
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

-- Take what is free among these ids; returns how many are held by plain arq workers and stay where they are.
local function take_free(ids, queue)
  local names, held = {}, 0
  for i, id in ipairs(ids) do
    names[3 * i - 2], names[3 * i - 1], names[3 * i] = LEASE .. id, TRIES .. id, JOB .. id
  end
  local values = redis.call('MGET', unpack(names))
  scores, records = {}, {}
  for i, id in ipairs(ids) do
    local holder = values[3 * i - 2]
    if not holder then
      take(id, queue, values[3 * i - 1], values[3 * i])
    elseif string.sub(holder, 1, #TOKEN) == TOKEN then
      restore(id, queue, holder)
    else
      held = held + 1
    end
  end
  call_with(scores, 2, 'ZADD', queue)
  call_with(records, 4, 'MSET')
  return held
end

for _, queue in ipairs(KEYS) do
  local skipped = 0
  while taken < limit and skipped <= steps do
    local most = math.min(limit - taken, SLICE)
    local ids = redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', skipped, most)
    if #ids == 0 then break end
    skipped = skipped + take_free(ids, queue)
  end
  if taken >= limit and #redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', skipped, 1) > 0 then
    claimed[3] = 1
    wake(queue)
  end
  local after = redis.call('ZRANGEBYSCORE', queue, '(' .. whole(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  local due = tonumber(after[2] or -1)
  if due > 0 and (claimed[2] < 0 or due < claimed[2]) then claimed[2] = due end
end
tell()
claimed[1] = whole(now)
claimed[2] = whole(claimed[2])
return claimed

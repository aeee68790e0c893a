-- Take due jobs under a lease: the id stays in its queue, with the lease's end as its score.
-- KEYS  queues (sorted sets) in the order to serve them
-- ARGV  1 worker id, 2 number of this claim, 3 lease in ms, 4 most jobs to take, 5 most held ids to step over
-- returns  now in ms, next due time in ms or -1, 1 if more is due, then 6 per job: id, queue, payload ('' if gone),
--          tries with this one, leases lost in a row, 1 if it was aborted before its start
-- A job over a limit is parked, out of the way of those behind it. Paused queues are left alone.
-- Run twice it takes other jobs: an answer that got lost leaves its jobs leased until the lease ends.
local now = now_ms()
local worker, lease_ms = ARGV[1], tonumber(ARGV[3])
local limit, steps = tonumber(ARGV[4]), tonumber(ARGV[5])
local token = TOKEN .. worker .. ':' .. ARGV[2]
local lease_end, lease_life = whole(now + lease_ms), whole(lease_ms)
local aborting = redis.call('EXISTS', ABORT) == 1
local claimed = {0, -1, 0}
local taken = 0
local STEPS_A_CLAIM = 2000 -- ids looked at in one queue, most of them to be parked
local scores, records = {}, {}
local limiting = redis.call('EXISTS', LIMITS) == 1

local function look_again(at)
  if claimed[2] < 0 or at < claimed[2] then claimed[2] = at end
end

-- Put those that waited for a limit back into their queues, as many as there is room for.
local function unpark()
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', LIMITS, '-inf', now, 'LIMIT', 0, 50)) do
    local room, free_at = room_of(key, now)
    local parked = room > 0 and redis.call('ZPOPMIN', PARKED .. key, math.min(room, SLICE)) or {}
    for i = 1, #parked, 2 do
      local id, queue = string.match(parked[i], '^(.*)\t(.-)$')
      if tonumber(redis.call('ZSCORE', queue, id) or 0) == PARKED_SCORE then -- not cancelled or replaced meanwhile
        redis.call('ZADD', queue, parked[i + 1], id)
        wake(queue)
      end
    end
    if redis.call('EXISTS', PARKED .. key) == 1 then
      redis.call('ZADD', LIMITS, whole(math.max(free_at, now + 1)), key)
    else
      redis.call('ZREM', LIMITS, key)
    end
  end
end

-- What a payload asks of its claim: limits, and whether its workflow still runs. Most payloads ask nothing, and are
-- not decoded for it.
local NOTHING = {}

local function asked_by(payload)
  local asks = payload and (string.find(payload, '"lm":[', 1, true) or string.find(payload, '"wf":"', 1, true))
  if not asks then return NOTHING end
  local readable, record = pcall(cjson.decode, payload)
  return readable and type(record) == 'table' and type(record.o) == 'table' and record.o or NOTHING
end

-- Whether a job's limits let it start; if so it is counted, if not it is parked with the first that does not.
local function within_limits(id, queue, limits)
  for _, key in ipairs(limits) do
    local room, free_at = room_of(key, now)
    if room <= 0 then
      redis.call('ZADD', PARKED .. key, redis.call('ZSCORE', queue, id), id .. '\t' .. queue)
      redis.call('ZADD', queue, PARKED_SCORE, id)
      redis.call('ZADD', LIMITS, whole(free_at), key)
      limiting = true
      return false
    end
  end
  for _, key in ipairs(limits) do
    local kind, _, period = limit_of(key)
    if kind == 'r' then
      redis.call('RPUSH', RATE .. key, whole(now))
      redis.call('PEXPIRE', RATE .. key, period)
    else
      redis.call('ZADD', HOLDERS .. key, lease_end, id)
    end
  end
  return true
end

-- Nodes of a workflow that failed or was cancelled are not to start, but for the handlers of failures.
local flows = {}

local function is_over(workflow)
  if flows[workflow] == nil then
    flows[workflow] = redis.call('HGET', WORKFLOW .. workflow, 'state') ~= 'running'
  end
  return flows[workflow]
end

local function take(id, queue, tries, payload, over)
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
  local aborted = (over or (aborting and redis.call('ZSCORE', ABORT, id))) and 1 or 0
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
      local asked = asked_by(values[3 * i])
      local over = asked.wf and not asked.h and is_over(asked.wf)
      if over or not asked.lm or within_limits(id, queue, asked.lm) then
        take(id, queue, values[3 * i - 1], values[3 * i], over)
      end
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

if limiting then unpark() end
local paused = redis.call('EXISTS', PAUSED) == 1

local function serve(queue)
  local skipped, looked = 0, 0
  while taken < limit and skipped <= steps and looked <= STEPS_A_CLAIM do
    local most = math.min(limit - taken, SLICE)
    local ids = redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', skipped, most)
    if #ids == 0 then break end
    skipped = skipped + take_free(ids, queue)
    looked = looked + #ids
  end
  local full = taken >= limit or looked > STEPS_A_CLAIM
  if full and #redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', skipped, 1) > 0 then
    claimed[3] = 1
    wake(queue)
  end
  local after = redis.call('ZRANGEBYSCORE', queue, '(' .. whole(now), '(' .. whole(PARKED_SCORE), 'WITHSCORES',
    'LIMIT', 0, 1)
  if after[2] then look_again(tonumber(after[2])) end
  if limiting and redis.call('ZCOUNT', queue, PARKED_SCORE, '+inf') > 0 then
    look_again(tonumber(redis.call('ZRANGE', LIMITS, 0, 0, 'WITHSCORES')[2] or now + lease_ms))
  end
end

for _, queue in ipairs(KEYS) do
  if not (paused and redis.call('SISMEMBER', PAUSED, base_of(queue)) == 1) then serve(queue) end
end
tell()
claimed[1] = whole(now)
claimed[2] = whole(claimed[2])
return claimed

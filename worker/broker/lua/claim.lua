-- Take due jobs under a lease: the id stays in its queue, with the lease's end as its score.
-- KEYS  queues (sorted sets) in the order to serve them; none for a worker that serves all queues and knows many: then
--       those that hold something, by name
-- ARGV  1 worker id, 2 number of this claim, 3 lease in ms, 4 most jobs to take, 5 most held ids to step over,
--       6 1 to serve the levels of a queue from the lowest up (where no KEYS are given), 7 1 to take suspects and nothing
--       else, at most a group that may run together
-- returns  now in ms, next due time in ms or -1, 1 if more is due, how many suspects wait, then 7 per job: id, queue,
--          payload ('' if gone), tries with this one, leases lost in a row, 1 if it was aborted before its start, 1 if it was
--          alone when it lost its last lease
-- A claim ends early, with more due, when what it took is large. A job over a limit is parked, out of the way of those
-- behind it, and so is a suspect (see suspects.lua). Paused queues are skipped. What cannot be a job (an id that is too
-- long or not text, an id of ours from somebody else) is ended here; an entry without a job is removed.
-- Run twice it takes other jobs. `give_back` returns the jobs of an answer that was lost; if nobody asks for that before
-- their leases end, they are restarted without having used a try.
local now = now_ms()
local worker, lease_ms = ARGV[1], tonumber(ARGV[3])
local limit, steps = tonumber(ARGV[4]), tonumber(ARGV[5])
local number = ARGV[2]
local token = TOKEN .. worker .. ':' .. number
local lease_end, lease_life = whole(now + lease_ms), whole(lease_ms)
local aborting = redis.call('EXISTS', ABORT) == 1
local first_run = run_record('running', worker .. ':' .. number, whole(now), 0)
local claimed = {0, -1, 0, 0}
local FIELDS, FIRST = 7, 5 -- of a job in the answer, and where the jobs begin
local isolating = ARGV[7] == '1'
local LOST_BY_A_SUSPECT = 2 -- leases in a row
local taken = 0
local bytes_taken = 0
local READ_AT_ONCE = 8 -- payloads, which may be large each
local STEPS_A_CLAIM = 2000 -- ids looked at in one queue, most of them only to be parked: bounds how long Redis is held
local scores, records = {}, {}
local limiting = redis.call('EXISTS', LIMITS) == 1

local function look_again(at)
  if claimed[2] < 0 or at < claimed[2] then claimed[2] = at end
end

-- Return jobs that waited for a limit to their queues, as many as there is room for. Whether they may start is decided
-- when they are taken: others may have taken the room by then, and they are parked again.
local function unpark()
  for _, key in ipairs(own('ZRANGEBYSCORE', LIMITS, '-inf', now, 'LIMIT', 0, 50)) do
    local known, room, free_at = limit_of(key), 0, now
    if known then room, free_at = room_of(key, now) end
    local parked = room > 0 and own('ZPOPMIN', PARKED .. key, math.min(room, SLICE)) or {}
    for i = 1, #parked, 2 do
      local id, queue = string.match(parked[i], '^(.*)\t(.-)$')
      local score = queue and bounded(redis.pcall('ZSCORE', queue, id), 0, PARKED_SCORE, 0)
      if score == PARKED_SCORE then -- not cancelled or replaced meanwhile
        redis.call('ZADD', queue, whole(bounded(parked[i + 1], 0, now, now)), id)
        wake(queue)
      end
    end
    if known and redis.call('EXISTS', PARKED .. key) == 1 then
      redis.call('ZADD', LIMITS, whole(math.max(free_at, now + 1)), key)
    else
      redis.call('ZREM', LIMITS, key)
    end
  end
end

-- What a payload requires of its claim: limits, whether its workflow still runs, what made it unique until now. Most
-- require nothing: looking for the text first saves decoding them. A match within an argument only costs the decoding.
local NOTHING = {}

local function asked_by(payload)
  local asks = payload and (string.find(payload, '"lm":[', 1, true) or string.find(payload, '"wf":"', 1, true)
    or string.find(payload, '"uq":"', 1, true))
  if not asks then return NOTHING end
  local record = decoded(payload)
  return record and record.o or NOTHING
end

-- Whether a job's limits let it start; if so it is counted, if not it is parked with the first that does not.
-- All limits are checked before any is counted: a job that the second one stops must not use up the first.
local function within_limits(id, queue, limits)
  for _, key in ipairs(limits) do
    local room, free_at = room_of(key, now)
    if room <= 0 then
      own('ZADD', PARKED .. key, redis.call('ZSCORE', queue, id), id .. '\t' .. queue)
      redis.call('ZADD', queue, PARKED_SCORE, id)
      own('ZADD', LIMITS, whole(free_at), key)
      limiting = true
      return false
    end
  end
  for _, key in ipairs(limits) do
    local kind, _, period = limit_of(key)
    if kind == 'r' then
      redis.call('RPUSH', RATE .. key, whole(now))
      redis.call('PEXPIRE', RATE .. key, whole(period))
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
    flows[workflow] = own('HGET', WORKFLOW .. workflow, 'state') ~= 'running'
  end
  return flows[workflow]
end

-- Debounced calls are one job until it starts; throttled ones for their period after that.
local function forget_unique(id, unique)
  local mode, ms, key = string.match(unique, '^([dt]):(%d+):(.*)$')
  if not mode or #ms > 12 or string.match(text(UNIQUE .. key) or '', '^(%S+) ') ~= id then return end
  if mode == 'd' then redis.call('DEL', UNIQUE .. key) else redis.call('PEXPIRE', UNIQUE .. key, ms) end
end

-- What the end of an earlier lease means: the number of this try, the leases that were lost in a row, the event.
-- `counted`: it had started when that lease was lost.
local function past_of(id, tries)
  local state, who, started, lost = read_run(id)
  if state ~= 'running' then return {try = tries + 1, lost = lost, name = 'started'} end
  local before, claim = string.match(who, '^([^:]*):(%d+)$')
  local past = {who = before or who, claim = claim or 0, started = started, last = tries}
  past.counted = redis.call('EXISTS', CLAIMED .. who) == 0 -- else its worker never got the claim's answer
  past.try = past.counted and tries + 1 or math.max(1, tries)
  past.lost = past.counted and lost + 1 or lost
  past.name = past.counted and 'restarted' or 'started'
  return past
end

-- A worker that lost the lease, but lives, is signalled to stop the job: it may not know yet, as when Redis' clock was
-- set.
local function tell_loser(id, past)
  if past.who then tell_worker(past.who, 'lost ' .. past.claim .. ' ' .. id) end
end

local function remember_loss(id, past)
  if not past.counted then return end
  remember_try(id, '{"n":' .. past.last .. ',"w":' .. cjson.encode(past.who) .. ',"st":' .. past.started .. ',"o":"lost"}')
end

local FRESH = {try = 1, lost = 0, name = 'started'}

local function take(id, queue, past, payload, ends)
  remember_loss(id, past)
  local alone = past.lost >= LOST_BY_A_SUSPECT and select(2, suspicion_of(id))
  redis.call('SET', LEASE .. id, token, 'PX', lease_life)
  scores[#scores + 1] = lease_end
  scores[#scores + 1] = id
  records[#records + 1] = TRIES .. id
  records[#records + 1] = past.try
  records[#records + 1] = RUN .. id
  records[#records + 1] = past.lost == 0 and first_run
    or run_record('running', worker .. ':' .. number, whole(now), past.lost)
  event(past.name, id, queue, worker, past.try)
  local n = #claimed
  claimed[n + 1], claimed[n + 2], claimed[n + 3] = id, queue, payload or ''
  claimed[n + 4], claimed[n + 5] = past.try, past.lost
  claimed[n + 6], claimed[n + 7] = ends and 1 or 0, alone and 1 or 0
  taken = taken + 1
  bytes_taken = bytes_taken + #claimed[n + 3]
end

-- A due id whose lease lives was re-scored from outside, as plain arq's Job.abort does: its worker is signalled, and the
-- score restored. Without an abort entry, which arq writes a moment later, it becomes due again soon.
local function restore(id, queue, holder)
  local left = redis.call('PTTL', LEASE .. id)
  if left < 0 then
    left = lease_ms
    redis.call('PEXPIRE', LEASE .. id, lease_life) -- a token of ours that would never end: somebody wrote it
  end
  left = math.max(1, math.min(left, LONGEST_LEASE_MS)) -- in its last millisecond: never due again within this call
  if aborting and own('ZSCORE', ABORT, id) then
    tell_holder(holder, id)
  else
    left = math.min(left, 500)
  end
  redis.call('ZADD', queue, whole(now + left), id)
end

-- End what cannot be a job, so that whoever queued it can read why.
local function refuse(id, queue, kind, message)
  local failure = '{"type":"' .. kind .. '","message":' .. cjson.encode(message) .. ',"traceback":null}'
  local at = whole(now)
  local result = '{"t":0,"f":"?","a":[],"k":{},"et":' .. at .. ',"s":false,"r":' .. failure .. ',"st":0,"ft":' .. at
    .. ',"q":' .. cjson.encode(printable(queue)) .. ',"id":' .. cjson.encode(printable(id)) .. ',"state":"failed"}'
  close(id, queue, 'failed', result, TOMBSTONE_MS, 1)
  event('failed', printable(id), printable(queue), worker, 0)
end

-- Whether an id with its payload can be a job; if not, it is ended or removed here.
local function is_job(id, queue, payload)
  if #id > ID_BYTES or #id == 0 then
    refuse(id, queue, 'InvalidId', 'an id must have at most ' .. ID_BYTES .. ' bytes')
  elseif not is_text(id) then
    refuse(id, queue, 'InvalidId', 'an id must be UTF-8')
  elseif not payload and redis.call('EXISTS', RESULT .. id, TRACE .. id) > 0 then
    redis.call('ZREM', queue, id) -- it has ended already
    own('HDEL', SUSPECTED, id)
  elseif payload and is_foreign(id, payload) then
    refuse(id, queue, 'ReservedId', "an id must not hold '" .. MARK .. "', which marks ids that Embarq makes itself")
  elseif payload and #payload > PAYLOAD_BYTES then
    refuse(id, queue, 'MalformedPayload', 'a payload must have at most ' .. PAYLOAD_BYTES .. ' bytes')
  else
    return true
  end
end

local function take_one(id, queue, tries, payload)
  if not is_job(id, queue, payload) then return end
  local asked = asked_by(payload)
  local workflow = type(asked.wf) == 'string' and asked.wf
  local over = workflow and not asked.h and is_over(workflow)
  local limits = not over and limits_in(asked)
  local ends = over or (aborting and own('ZSCORE', ABORT, id)) -- it is claimed to be ended as cancelled
  local past = tries and past_of(id, math.floor(bounded(tries, 0, MOST_TRIES, 0))) or FRESH
  tell_loser(id, past)
  if past.lost >= LOST_BY_A_SUSPECT and not isolating and not ends then return park_suspect(id, queue, past.counted) end
  if limits and not within_limits(id, queue, limits) then return end
  if type(asked.uq) == 'string' and not tries then forget_unique(id, asked.uq) end
  take(id, queue, past, payload, ends)
end

-- Take what is free among these ids, until that is large; returns how many were looked at, and how many of them are held
-- by plain arq workers and stay where they are. An id that an error stops is put off, so that those behind it are taken.
local function take_free(ids, queue)
  local looked, held, names, values = 0, 0, {}, nil
  scores, records = {}, {}
  for i, id in ipairs(ids) do
    if bytes_taken > CLAIM_BYTES then break end
    looked = i
    local at = 3 * ((i - 1) % READ_AT_ONCE)
    if at == 0 then
      names = {}
      for j = i, math.min(i + READ_AT_ONCE - 1, #ids) do
        names[#names + 1] = LEASE .. ids[j]
        names[#names + 1] = TRIES .. ids[j]
        names[#names + 1] = JOB .. ids[j]
      end
      values = redis.call('MGET', unpack(names))
    end
    local holder = values[at + 1]
    if not holder then
      local done, problem = pcall(take_one, id, queue, values[at + 2], values[at + 3])
      if not done then -- what it had written stays: Redis rolls nothing back, and taking it anew repairs it
        redis.log(redis.LOG_WARNING, 'embarq: a job was put off: ' .. failure_of(problem))
        redis.call('ZADD', queue, whole(now + PUT_OFF_MS), id)
      end
    elseif string.sub(holder, 1, #TOKEN) == TOKEN then
      restore(id, queue, holder)
    else
      held = held + 1
    end
  end
  if #ended > 0 then sweep() end
  call_with(scores, 2, 'ZADD', queue)
  call_with(records, 4, 'MSET')
  return looked, held
end

if limiting then
  local done, problem = pcall(unpark)
  if not done then redis.log(redis.LOG_WARNING, 'embarq: limits were skipped: ' .. failure_of(problem)) end
end
local paused = redis.call('EXISTS', PAUSED) == 1

local function serve(queue)
  if not is_arqs(queue) and not may_hold_jobs(queue) then return end
  local skipped, looked = 0, 0
  while taken < limit and bytes_taken <= CLAIM_BYTES and skipped <= steps and looked <= STEPS_A_CLAIM do
    local most = math.min(limit - taken, SLICE)
    local ids = own('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', skipped, most)
    if #ids == 0 then break end
    local seen, held = take_free(ids, queue)
    skipped = skipped + held
    looked = looked + seen
  end
  local full = taken >= limit or bytes_taken > CLAIM_BYTES or looked > STEPS_A_CLAIM
  if full and #own('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', skipped, 1) > 0 then
    claimed[3] = 1
    wake(queue)
  end
  local later = own('ZRANGEBYSCORE', queue, '(' .. whole(now), '(' .. whole(PARKED_SCORE), 'WITHSCORES', 'LIMIT', 0, 1)
  if later[2] then look_again(tonumber(later[2])) end
  -- Suspects are parked as well, and wait for no limit.
  if limiting and redis.call('ZCOUNT', queue, PARKED_SCORE, '+inf') > own('ZCARD', SUSPECTS_IN .. queue) then
    local next_room = own('ZRANGE', LIMITS, 0, 0, 'WITHSCORES')[2]
    look_again(bounded(next_room, 0, MOST_MS, now + lease_ms))
  end
end

-- The queues that hold something, by name and level; emptied ones are forgotten on the way.
local function queues_in_use()
  local ranks, found = {high = 1, low = 3}, {}
  for _, queue in ipairs(own('SMEMBERS', ACTIVE)) do
    if not is_queue(queue) or redis.pcall('ZCARD', queue) == 0 then
      redis.call('SREM', ACTIVE, queue)
    else
      local level = ranks[string.match(queue, '!(%a+)$')] or 2
      found[#found + 1] = {queue, base_of(queue), ARGV[6] == '1' and -level or level}
    end
  end
  table.sort(found, function(one, other)
    if one[2] ~= other[2] then return one[2] < other[2] end
    return one[3] < other[3]
  end)
  for place, entry in ipairs(found) do found[place] = entry[1] end
  return found
end

local served = #KEYS > 0 and {}
for _, queue in ipairs(KEYS) do served[queue] = true end

local function take_suspects()
  for _, group in ipairs(next_suspects(suspected_queues(served), limit)) do
    local queue, ids = unpack(group)
    for i = take_free(ids, queue) + 1, #ids do park_suspect(ids[i], queue, false) end
  end
  for i = FIRST, #claimed, FIELDS do
    local size, alone = suspicion_of(claimed[i])
    suspect(claimed[i], size, alone, taken)
  end
end

if isolating then
  take_suspects()
else
  for _, queue in ipairs(#KEYS > 0 and KEYS or queues_in_use()) do
    if not (paused and own('SISMEMBER', PAUSED, base_of(queue)) == 1) then serve(queue) end
  end
end
if taken > 0 then
  local ids = {}
  for i = FIRST, #claimed, FIELDS do
    ids[#ids + 1] = claimed[i]
    ids[#ids + 1] = claimed[i + 1]
  end
  redis.call('SET', CLAIMED .. worker .. ':' .. number, cmsgpack.pack(ids), 'PX', CLAIMED_KEPT_MS)
end
if redis.call('EXISTS', UNFINISHED) == 1 then look_again(now + 50) end -- steps of a workflow are still being queued
tell()
claimed[1] = whole(now)
claimed[2] = whole(claimed[2])
claimed[4] = select(2, suspected_queues(served))
return claimed

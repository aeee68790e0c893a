-- Read what a waiting job waits for, at one moment. Bounded: at most 10 names of anything, 1,000 members of a join.
-- ARGV  1 id of the job
-- returns  JSON: now, and for a job that is known: job, queue, due, leased, paused, plain_arq (a
--          plain arq worker of it keeps its health check fresh), limits (key, room, free_at, holders),
--          ahead (due jobs that come before it), for a suspect: together (how many of them may run at once), lost (leases
--          in a row); for a step that has not started: workflow, over, waits (how many steps it
--          still waits for), steps (jobs of some of those)
local now, id = now_ms(), ARGV[1]
local MOST_NAMES, MOST_MEMBERS = 10, 1000
local facts = {now = now}

local function look_at_limits(keys)
  local found = {}
  for _, key in ipairs(keys) do
    local room, free_at = room_of(key, now)
    local holders = redis.call('ZRANGE', HOLDERS .. key, 0, MOST_NAMES - 1)
    found[#found + 1] = {key = key, room = room, free_at = free_at, holders = #holders > 0 and holders or nil}
  end
  if #found > 0 then facts.limits = found end
end

-- Due jobs that are claimed first: of the same level with an earlier time, and of the levels above.
local function count_ahead(queue, due)
  local base = base_of(queue)
  local levels = {[base .. '!low'] = {base .. '!high', base}, [base] = {base .. '!high'}}
  local ahead = redis.call('ZCOUNT', queue, '-inf', '(' .. whole(math.min(due, now)))
  for _, above in ipairs(levels[queue] or {}) do ahead = ahead + redis.call('ZCOUNT', above, '-inf', now) end
  return ahead
end

local function look_at_job(payload)
  local record = decoded(payload)
  if not record or type(record.f) ~= 'string' then return end
  local queue = find_queue(id, record)
  local due = bounded(own('ZSCORE', queue, id), 0, PARKED_SCORE, now)
  facts.job, facts.queue, facts.due = printable(record.f), queue, due
  facts.leased = redis.call('EXISTS', LEASE .. id) == 1
  facts.paused = own('SISMEMBER', PAUSED, base_of(queue)) == 1
  facts.plain_arq = redis.call('EXISTS', base_of(queue) .. HEALTH_CHECK) == 1
  facts.ahead = count_ahead(queue, due)
  look_at_limits(limits_in(record.o) or {})
  local together = own('ZSCORE', SUSPECTS_IN .. queue, id)
  if together then
    local state, _, _, lost = read_run(id)
    facts.together, facts.lost = bounded(together, 1, SUSPECTS_TOGETHER, 1), lost + (state == 'running' and 1 or 0)
  end
end

-- A step that was not queued yet: what it waits for; behind a join, the members that have not ended.
local function look_at_step()
  local workflow, number = string.match(id, '^(.*)[~.](%d+)$') -- the release before wrote a point
  local text_of = workflow and own('HGET', NODES .. workflow, number)
  if not text_of then return end
  facts.workflow = workflow
  facts.over = redis.call('HGET', WORKFLOW .. workflow, 'state') ~= 'running'
  facts.waits = bounded(redis.call('HGET', WAITS .. workflow, number), 0, MOST_MS, 0)
  local node = cjson.decode(text_of)
  local after = node.b
  if not after then return end
  local first = cjson.decode(redis.call('HGET', NODES .. workflow, after))
  local before, steps = {after}, {}
  if first.a then
    before, facts.waits = first.a, bounded(redis.call('HGET', WAITS .. workflow, after), 0, MOST_MS, 0)
  end
  for place, each in ipairs(before) do
    if place > MOST_MEMBERS or #steps >= MOST_NAMES then break end
    if redis.call('HEXISTS', ENDS .. workflow, each) == 0 then
      steps[#steps + 1] = cjson.decode(redis.call('HGET', NODES .. workflow, each)).i or ('node ' .. each)
    end
  end
  if #steps > 0 then facts.steps = steps end
end

local payload = text(JOB .. id)
-- Damaged data must not fail the query: what can be read is returned.
if payload then pcall(look_at_job, payload) elseif redis.call('EXISTS', RESULT .. id) == 0 then pcall(look_at_step) end
return cjson.encode(facts)

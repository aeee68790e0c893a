-- Settle tries of jobs, each only while its lease is held.
-- ARGV  1 worker id, then 8 per try: id, queue, token, number of the try, action, value, milliseconds,
--       what else belongs to it ('' for nothing) as JSON: l keys of the limits that it holds, w its workflow, n its node
--       in it, r the node's result or failure as JSON within a string, t what to keep for a minute of a job without
--       result as JSON within a string, d the request id of a durable job
--       action 'retry' or 'release': milliseconds until due; value is the record of the try for a retry, '' for a
--       release, which gives the try back. A job that is to be cancelled is due at once, to be ended by its claim.
--       any other action is the final state: value is the result, milliseconds its life (-1: persistent, 0: none)
-- returns  per try: 1 stored, 0 refused because the lease was lost, or what was wrong with it as a text
-- Each try is settled on its own: what is wrong with one touches no other. The worker is signalled to start what is left
-- of a large workflow.
-- Run twice, the second run recognises by the token what the first one stored, and returns 1 again.
local now = now_ms()
local worker = ARGV[1]
local answers, leases, nodes = {}, {}, {}

local function requeue(id, queue, token, action, record, delay)
  redis.call('DEL', LEASE .. id)
  own('HDEL', SUSPECTED, id)
  if record ~= '' then remember_try(id, record) end
  if own('ZSCORE', ABORT, id) then delay = 0 end -- a job that is to be cancelled need not wait for its retry
  local _, _, started = read_run(id)
  redis.call('SET', RUN .. id, run_record(action, token, started or whole(now), 0))
  if action == 'release' then redis.call('SET', TRIES .. id, whole(math.max(0, tries_of(id) - 1))) end
  queue = place_of(queue)
  own('ZADD', queue, whole(now + delay), id)
  wake(queue)
end

local function stored_before(id, token, action)
  if action == 'retry' or action == 'release' then
    local state, settled = read_run(id)
    return state ~= 'running' and settled == token
  end
  return string.find(text(RESULT .. id) or text(TRACE .. id) or '', '"lease":"' .. token .. '"', 1, true) ~= nil
end

local function settle(holder, id, queue, token, try, action, value, ms, also)
  try, ms, also = tonumber(try), tonumber(ms), also ~= '' and cjson.decode(also)
  if not try or not ms or ms > MOST_MS then error('a try and its time must be numbers') end
  if holder ~= token then
    if stored_before(id, token, action) then return 1 end
    event('refused', id, queue, worker, try)
    return 0
  end
  if action == 'retry' or action == 'release' then
    requeue(id, queue, token, action, value, math.max(0, ms))
  else
    close(id, queue, action, value, ms, try, also and also.t)
    if also and also.d then remember_end(id, also.d) end
  end
  event(action, id, queue, worker, try)
  if also and also.l then let_go(id, queue, also.l, now) end
  if also and also.w then nodes[#nodes + 1] = {also.w, also.n, action, also.r, now} end
  return 1
end

for from = 2, #ARGV, 8 * SLICE do
  local names = {}
  for i = from, math.min(from + 8 * SLICE - 1, #ARGV), 8 do names[#names + 1] = LEASE .. ARGV[i] end
  for _, holder in ipairs(redis.call('MGET', unpack(names))) do leases[#leases + 1] = holder end
end

for i = 2, #ARGV, 8 do
  local done, answer = pcall(settle, leases[#answers + 1], unpack(ARGV, i, i + 7))
  answers[#answers + 1] = done and answer or failure_of(answer)
end
sweep() -- before the nodes: a retried workflow may queue a job under the id that has just ended
for _, node in ipairs(nodes) do
  local done = pcall(node_ended, unpack(node))
  if not done then event('workflow_damaged', node[1], '', '', 0) end
end
if unfinished then tell_worker(worker, 'go on') end
put_all()
tell()
return answers

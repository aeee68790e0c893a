-- Included after queueing.lua in the scripts that end jobs or start workflows. A workflow is a graph of nodes, numbered
-- from 0: jobs, and joins, which stand for the list of their members' values. docs/state-machine.md has the transitions.
--   WORKFLOW .. id  hash: state, policy ('stop' or 'continue'), nonce (the request id), last (node whose value is the result), left (nodes
--                   that must still succeed), keep (ms to keep all after the end), created, finished, failed (node)
--   NODES .. id     hash: node -> JSON of what never changes: i job id, q queue, d delay, u due time; a members of a
--                   join; b the node before; s successors; e handlers of its failure; h if it is a handler; k if it follows success only
--   CALLS .. id     hash: node -> payload, without its times
--   WAITS .. id     hash: node -> predecessors that have not succeeded yet
--   ENDS .. id      hash: node -> final state
--   VALUES .. id    hash: node -> result as JSON; of a failed node, {"error": its failure}
--   CAUSES .. id    hash: handler -> JSON of the failure that started it
--   UNFINISHED      list: work that a script deferred because it would have held Redis for too long, each as JSON: w
--                   workflow, and f: nodes from f on that are ready are to be started; or n, s, p: what follows node n,
--                   which ended as s, is to be started or counted down, from place p on. `workflow_go_on` does it.

local WORKFLOW_KEYS = {WORKFLOW, NODES, CALLS, WAITS, ENDS, VALUES, CAUSES, AGAIN}
local FEW = 20      -- up to this many successors are handled at once, whatever else the script does
local room = 150    -- nodes that this script may start or count down beyond those: some milliseconds of Redis' time
local unfinished = false

local function leave(rest)
  own('RPUSH', UNFINISHED, cjson.encode(rest))
  unfinished = true
end

-- Give a workflow its final state, and its keys the life that it asked for.
local function end_workflow(id, state, now)
  redis.call('HSET', WORKFLOW .. id, 'state', state, 'finished', whole(now))
  local keep = redis.call('HGET', WORKFLOW .. id, 'keep')
  for _, kind in ipairs(WORKFLOW_KEYS) do redis.call('PEXPIRE', kind .. id, keep) end
  event('workflow_' .. state, id, '', '', 0)
  redis.call('PUBLISH', DONE .. id, state)
end

local node_ended

-- Start a node whose predecessors have all succeeded. A join is done at once.
local function start_node(id, number, node, now)
  if node.a then return node_ended(id, number, 'succeeded', false, now, node) end
  local due = node.u or now + (node.d or 0)
  if redis.call('EXISTS', JOB .. node.i, RESULT .. node.i) > 0 then is_taken(node.i) end
  put(node.i, node.q, due, now, redis.call('HGET', CALLS .. id, number))
end

local nodes_read = {}

local function read_node(id, number)
  local name = number .. ' ' .. id
  if not nodes_read[name] then nodes_read[name] = cjson.decode(redis.call('HGET', NODES .. id, number)) end
  return nodes_read[name]
end

-- Start the handlers of a node's failure, each once.
local function start_handlers(id, node, failure, now)
  local cause = '{"job_id":' .. cjson.encode(node.i) .. ',"error":' .. failure .. '}'
  for _, handler in ipairs(node.e or {}) do
    if redis.call('HSETNX', CAUSES .. id, handler, cause) == 1 then
      start_node(id, handler, read_node(id, handler), now)
    end
  end
end

-- One of the nodes that must succeed has; with the last of them the workflow ends.
local function count_down(id, flow, now)
  if redis.call('HINCRBY', WORKFLOW .. id, 'left', -1) == 0 and flow == 'running' then
    local last = redis.call('HGET', ENDS .. id, redis.call('HGET', WORKFLOW .. id, 'last'))
    end_workflow(id, last == 'succeeded' and 'succeeded' or 'failed', now)
  end
end

-- A node's value is there, which may be a failure: start the successors that waited for it alone, from place `first` on.
local function pass_on(id, number, node, flow, state, now, first)
  local successors = node.s or {}
  for place = first, #successors do
    if #successors > FEW then
      if room == 0 then return leave({w = id, n = number, s = state, p = place}) end
      room = room - 1
    end
    local successor = successors[place]
    local following = state ~= 'succeeded' and read_node(id, successor)
    if following and following.k then
      redis.call('HSET', ENDS .. id, successor, 'skipped')
      count_down(id, flow, now)
    elseif redis.call('HINCRBY', WAITS .. id, successor, -1) == 0 and flow == 'running' then
      start_node(id, successor, following or read_node(id, successor), now)
    end
  end
end

-- A node has ended: record it, and start what waited for it alone. `value` is JSON, false for a join. The keys of its job
-- must be swept already, as it may be restarted.
function node_ended(id, number, state, value, now, node)
  local flow, policy = unpack(redis.call('HMGET', WORKFLOW .. id, 'state', 'policy'))
  if not flow then return end
  node = node or read_node(id, number)
  if state ~= 'succeeded' and flow == 'running' and redis.call('SREM', AGAIN .. id, number) == 1 then
    redis.call('DEL', RESULT .. node.i, HISTORY .. node.i)
    return start_node(id, number, node, now)
  end
  if redis.call('HSETNX', ENDS .. id, number, state) == 0 then return end -- a repeated ack counts nothing down
  local kept = state == 'succeeded' and value or value and '{"error":' .. value .. '}'
  if kept then redis.call('HSET', VALUES .. id, number, kept) end
  if state ~= 'succeeded' then start_handlers(id, node, value, now) end
  if node.h then return end
  if state ~= 'succeeded' and flow ~= 'running' then -- it ended with its workflow: nothing follows, unless that is retried
    redis.call('SADD', AGAIN .. id, number)
    return
  end
  if state ~= 'succeeded' and policy == 'stop' then
    redis.call('HSET', WORKFLOW .. id, 'failed', number)
    return end_workflow(id, 'failed', now)
  end
  pass_on(id, number, node, flow, state, now, 1)
  count_down(id, flow, now)
end

-- Whether a node's end stands when its workflow is retried: a success, or a failure that was passed on as a value. The
-- others are restarted.
local function is_done(id, number, ended, policy, node)
  if ended == 'succeeded' then return true end
  return ended and policy == 'continue' and not node.h and redis.call('SISMEMBER', AGAIN .. id, number) == 0
end

-- Start nodes that wait for nothing, from number `first` on: at the start of a workflow, and when it is retried. An end
-- that does not stand came between the slices of a retry.
local function start_ready(id, first, now)
  local state, policy = unpack(redis.call('HMGET', WORKFLOW .. id, 'state', 'policy'))
  if state ~= 'running' then return end
  local numbers = numbers_from(first)
  local waits = redis.call('HMGET', WAITS .. id, unpack(numbers))
  local ends = redis.call('HMGET', ENDS .. id, unpack(numbers))
  for place, number in ipairs(numbers) do
    if not waits[place] then return end
    local node = waits[place] == '0' and read_node(id, number)
    local ended = ends[place]
    if node and ended and not is_done(id, number, ended, policy, node) then
      redis.call('HDEL', ENDS .. id, number)
      redis.call('HDEL', VALUES .. id, number)
      redis.call('SREM', AGAIN .. id, number)
      if node.i then redis.call('DEL', RESULT .. node.i, HISTORY .. node.i) end
      ended = false
    end
    if node and not ended then
      if not node.i or redis.call('EXISTS', JOB .. node.i) == 0 or not is_taken(node.i) then
        if room == 0 then return leave({w = id, f = number}) end
        room = room - 1
        start_node(id, number, node, now)
      elseif redis.call('EXISTS', LEASE .. node.i) == 0 then
        redis.call('SREM', AGAIN .. id, number)
      end
    end
  end
  leave({w = id, f = first + SLICE})
end

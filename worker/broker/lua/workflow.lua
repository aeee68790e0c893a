-- Put behind queueing.lua in the scripts that end jobs or start workflows. A workflow is a graph of nodes, numbered
-- from 0: jobs, and joins, which stand for the list of their members' values. docs/state-machine.md has the transitions.
--   WORKFLOW .. id  hash: state, policy ('stop' or 'continue'), nonce, last (node whose value is the result), left (nodes
--                   that must still end well), keep (ms to keep all after the end), created, finished, failed (node)
--   NODES .. id     hash: node -> JSON of what never changes: i job id, q queue, d delay, u due time; a members of a
--                   join; b the node before; s successors; e handlers of its failure; h if it is a handler; k if it follows success only
--   CALLS .. id     hash: node -> payload, without its times
--   WAITS .. id     hash: node -> predecessors that have not ended well yet
--   ENDS .. id      hash: node -> final state
--   VALUES .. id    hash: node -> result as JSON; of a failed node, {"error": its failure}
--   CAUSES .. id    hash: handler -> JSON of the failure that started it

local WORKFLOW_KEYS = {WORKFLOW, NODES, CALLS, WAITS, ENDS, VALUES, CAUSES, AGAIN}

-- Give a workflow its final state, and its keys the life that it asked for.
local function end_workflow(id, state, now)
  redis.call('HSET', WORKFLOW .. id, 'state', state, 'finished', whole(now))
  local keep = redis.call('HGET', WORKFLOW .. id, 'keep')
  for _, kind in ipairs(WORKFLOW_KEYS) do redis.call('PEXPIRE', kind .. id, keep) end
  event('workflow_' .. state, id, '', '', 0)
  redis.call('PUBLISH', DONE .. id, state)
end

local node_ended

-- Start a node whose predecessors have all ended well. A join is done at once.
local function start_node(id, number, node, now)
  if node.a then return node_ended(id, number, 'succeeded', false, now, node) end
  local due = node.u or now + (node.d or 0)
  if redis.call('EXISTS', JOB .. node.i, RESULT .. node.i) > 0 then is_taken(node.i) end
  put(node.i, node.q, due, now, redis.call('HGET', CALLS .. id, number))
end

local function read_node(id, number)
  return cjson.decode(redis.call('HGET', NODES .. id, number))
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

-- One of those that must end well has; with the last of them the workflow ends.
local function count_down(id, flow, now)
  if redis.call('HINCRBY', WORKFLOW .. id, 'left', -1) == 0 and flow == 'running' then
    local last = redis.call('HGET', ENDS .. id, redis.call('HGET', WORKFLOW .. id, 'last'))
    end_workflow(id, last == 'succeeded' and 'succeeded' or 'failed', now)
  end
end

-- A node's value is there, be it a failure: start the successors that waited for it alone.
local function pass_on(id, node, flow, state, now)
  for _, successor in ipairs(node.s or {}) do
    local following = state ~= 'succeeded' and read_node(id, successor)
    if following and following.k then
      redis.call('HSET', ENDS .. id, successor, 'skipped')
      count_down(id, flow, now)
    elseif redis.call('HINCRBY', WAITS .. id, successor, -1) == 0 and flow == 'running' then
      start_node(id, successor, following or read_node(id, successor), now)
    end
  end
end

-- A node has come to its end: note it, and start what waited for it alone. `value` is JSON, false for a join. The keys
-- of its job must be swept already: it may start anew.
function node_ended(id, number, state, value, now, node)
  local flow, policy = unpack(redis.call('HMGET', WORKFLOW .. id, 'state', 'policy'))
  if not flow then return end
  node = node or read_node(id, number)
  if state ~= 'succeeded' and flow == 'running' and redis.call('SREM', AGAIN .. id, number) == 1 then
    redis.call('DEL', RESULT .. node.i, HISTORY .. node.i)
    return start_node(id, number, node, now)
  end
  if redis.call('HSETNX', ENDS .. id, number, state) == 0 then return end
  local kept = state == 'succeeded' and value or value and '{"error":' .. value .. '}'
  if kept then redis.call('HSET', VALUES .. id, number, kept) end
  if state ~= 'succeeded' then start_handlers(id, node, value, now) end
  if node.h then return end
  if state ~= 'succeeded' and policy == 'stop' then
    if flow == 'running' then
      redis.call('HSET', WORKFLOW .. id, 'failed', number)
      end_workflow(id, 'failed', now)
    end
    return
  end
  pass_on(id, node, flow, state, now)
  count_down(id, flow, now)
end

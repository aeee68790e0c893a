-- Resume a workflow that failed or was cancelled: nodes that did not succeed are restarted. A slice of them in each call
-- is made ready; with the last one the workflow runs again.
-- ARGV  1 id, 2 number of the node to continue from, 0 at first
-- returns  'running', 'succeeded' (nothing to do), 'unknown', or the state that it still has; and the node to continue
--          from (-1 at the end)
-- Run twice, the second run finds it running and changes nothing. If no further call comes, it stays as it ended.
local now, id, first = now_ms(), ARGV[1], tonumber(ARGV[2])

-- All nodes have ended. Where the last one failed, it is tried again: with failures as values nothing else counts.
local function finish_last(id, now)
  local last = redis.call('HGET', WORKFLOW .. id, 'last')
  if redis.call('HGET', ENDS .. id, last) == 'succeeded' then return end_workflow(id, 'succeeded', now) end
  redis.call('HSET', WORKFLOW .. id, 'left', 1)
  redis.call('SADD', AGAIN .. id, last)
end

local state, policy, starting = unpack(redis.call('HMGET', WORKFLOW .. id, 'state', 'policy', 'starting'))
if not state or starting then return {'unknown', -1} end
if state == 'running' or state == 'succeeded' then return {state, -1} end
local numbers = numbers_from(first)
local nodes = redis.call('HMGET', NODES .. id, unpack(numbers))
local ends = redis.call('HMGET', ENDS .. id, unpack(numbers))
local anew, gone, again, is_last = {}, {}, {}, false
for place, number in ipairs(numbers) do
  is_last = not nodes[place]
  if is_last then break end
  local node = cjson.decode(nodes[place])
  if not is_done(id, number, ends[place], policy, node) then
    if node.i and redis.call('EXISTS', JOB .. node.i) == 1 then
      again[#again + 1] = number -- its job is still there: the node is restarted if that does not succeed
    else
      anew[#anew + 1] = number
      if node.i and ends[place] then
        gone[#gone + 1] = RESULT .. node.i
        gone[#gone + 1] = HISTORY .. node.i
      end
    end
  end
end
call_with(again, 1, 'SADD', AGAIN .. id)
call_with(anew, 1, 'HDEL', ENDS .. id)
call_with(anew, 1, 'HDEL', VALUES .. id)
call_with(anew, 1, 'SREM', AGAIN .. id)
call_with(gone, 1, 'DEL')
if not is_last then return {state, first + SLICE} end
redis.call('HSET', WORKFLOW .. id, 'state', 'running')
redis.call('HDEL', WORKFLOW .. id, 'finished', 'failed')
for _, kind in ipairs(WORKFLOW_KEYS) do redis.call('PERSIST', kind .. id) end
redis.call('DEL', CAUSES .. id)
event('workflow_started', id, '', '', 0)
if tonumber(redis.call('HGET', WORKFLOW .. id, 'left')) <= 0 then finish_last(id, now) end
start_ready(id, 0, now)
put_all()
tell()
return {'running', -1}

-- Let a workflow that failed or was cancelled go on: nodes that did not end well start anew.
-- ARGV  1 id
-- returns  'running', 'succeeded' (nothing to do), or 'unknown'
-- Run twice, the second run finds it running and changes nothing.
local now, id = now_ms(), ARGV[1]
local state, policy = unpack(redis.call('HMGET', WORKFLOW .. id, 'state', 'policy'))
if not state then return 'unknown' end
if state == 'running' or state == 'succeeded' then return state end
redis.call('HSET', WORKFLOW .. id, 'state', 'running')
redis.call('HDEL', WORKFLOW .. id, 'finished', 'failed')
for _, kind in ipairs(WORKFLOW_KEYS) do redis.call('PERSIST', kind .. id) end
redis.call('DEL', CAUSES .. id)
local nodes = redis.call('HGETALL', NODES .. id)
for i = 1, #nodes, 2 do
  local number, node = nodes[i], cjson.decode(nodes[i + 1])
  local ended = redis.call('HGET', ENDS .. id, number)
  local done = ended == 'succeeded' or (ended and policy == 'continue' and not node.h)
  if not done and node.i and redis.call('EXISTS', JOB .. node.i) == 1 then
    if redis.call('EXISTS', LEASE .. node.i) == 1 then redis.call('SADD', AGAIN .. id, number) end
  elseif not done then
    redis.call('HDEL', ENDS .. id, number)
    redis.call('HDEL', VALUES .. id, number)
    if node.i then redis.call('DEL', RESULT .. node.i, HISTORY .. node.i) end
    if redis.call('HGET', WAITS .. id, number) == '0' then start_node(id, number, node, now) end
  end
end
event('workflow_started', id, '', '', 0)
put_all()
tell()
return 'running'

-- Read a workflow, a slice of its nodes in each call.
-- ARGV  1 id, 2 number of the node to continue from, 0 at first
-- returns  the node to continue from (-1 at the end), its hash as a flat list (empty if there is none), then 2 per node: its
--          JSON, its final state or one of 'running', 'queued', 'waiting', 'skipped'
local id, first = ARGV[1], tonumber(ARGV[2])
local found = {first + SLICE, redis.call('HGETALL', WORKFLOW .. id)}
local over = redis.call('HGET', WORKFLOW .. id, 'state') ~= 'running' and 'skipped'
local numbers = numbers_from(first)
local nodes = redis.call('HMGET', NODES .. id, unpack(numbers))
local ends = redis.call('HMGET', ENDS .. id, unpack(numbers))
for place = 1, #numbers do
  if not nodes[place] then
    found[1] = -1
    break
  end
  local state = ends[place]
  if not state then
    local job = cjson.decode(nodes[place]).i
    state = not job and (over or 'waiting')
      or redis.call('EXISTS', LEASE .. job) == 1 and 'running'
      or redis.call('EXISTS', JOB .. job) == 1 and 'queued'
      or over or 'waiting'
  end
  found[#found + 1] = nodes[place]
  found[#found + 1] = state
end
return found

-- Read a workflow, at one moment.
-- ARGV  1 id
-- returns  now in ms, its hash as a flat list (empty if there is none), then 3 per node: number, its JSON, its final
--          state or one of 'running', 'queued', 'waiting', 'skipped'
local id = ARGV[1]
local found = {whole(now_ms()), redis.call('HGETALL', WORKFLOW .. id)}
if #found[2] == 0 then return found end
local over = redis.call('HGET', WORKFLOW .. id, 'state') ~= 'running' and 'skipped'
local ended, ends = redis.call('HGETALL', ENDS .. id), {}
for i = 1, #ended, 2 do ends[ended[i]] = ended[i + 1] end
local nodes = redis.call('HGETALL', NODES .. id)
for i = 1, #nodes, 2 do
  local number = nodes[i]
  local state = ends[number]
  if not state then
    local job = cjson.decode(nodes[i + 1]).i
    state = not job and (over or 'waiting')
      or redis.call('EXISTS', LEASE .. job) == 1 and 'running'
      or redis.call('EXISTS', JOB .. job) == 1 and 'queued'
      or over or 'waiting'
  end
  for _, value in ipairs({number, nodes[i + 1], state}) do found[#found + 1] = value end
end
return found

-- Start a workflow: keep its nodes, and queue those that wait for nothing.
-- ARGV  1 id, 2 nonce, 3 policy, 4 node whose value is the result, 5 how many must end well, 6 ms to keep it after its
--       end, then 3 per node in their order: its JSON, how many it waits for (-1 for a handler), payload ('' for a join)
-- returns  1 started, 0 another workflow or job has this id
-- Run twice with the same nonce it changes nothing and returns the same.
local now, id = now_ms(), ARGV[1]
local known = own('HGET', WORKFLOW .. id, 'nonce')
if known then return known == ARGV[2] and 1 or 0 end
if is_taken(id) then return 0 end
redis.call('HSET', WORKFLOW .. id, 'state', 'running', 'nonce', ARGV[2], 'policy', ARGV[3], 'last', ARGV[4],
  'left', ARGV[5], 'keep', ARGV[6], 'created', whole(now))
local nodes, calls, waits, ready = {}, {}, {}, {}
for i = 7, #ARGV, 3 do
  local number = (i - 7) / 3
  nodes[#nodes + 1] = number
  nodes[#nodes + 1] = ARGV[i]
  waits[#waits + 1] = number
  waits[#waits + 1] = ARGV[i + 1]
  if ARGV[i + 2] ~= '' then
    calls[#calls + 1] = number
    calls[#calls + 1] = ARGV[i + 2]
  end
  if ARGV[i + 1] == '0' then ready[#ready + 1] = number end
end
call_with(nodes, 2, 'HSET', NODES .. id)
call_with(calls, 2, 'HSET', CALLS .. id)
call_with(waits, 2, 'HSET', WAITS .. id)
event('workflow_started', id, '', '', 0)
for _, number in ipairs(ready) do start_node(id, number, cjson.decode(ARGV[7 + 3 * number]), now) end
put_all()
tell()
return 1

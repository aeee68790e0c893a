-- Start a workflow: keep its nodes, a slice of them in each call, and with the last ones start it.
-- ARGV  1 id, 2 request id, 3 policy, 4 node whose value is the result, 5 how many must end well, 6 ms to keep it after its
--       end, 7 number of the first node of this slice, 8 how many nodes there are, then 3 per node in their order: its
--       JSON, how many it waits for (-1 for a handler), payload ('' for a join)
-- returns  1 done, 2 started, and something is left to `workflow_go_on`, 0 another workflow or job has this id,
--          -1 the slices before have expired: start again with the first
-- Until the last slice the workflow has the field `starting`, and all of it expires a minute after the newest slice, in
-- case its client dies. Run twice with the same request id it changes nothing and returns the same. Its field is `nonce`, as
-- releases before this one wrote it.
local HALF_STARTED_MS = 60000
local now, id = now_ms(), ARGV[1]
local first, total = tonumber(ARGV[7]), tonumber(ARGV[8])
local known, state, starting = unpack(own('HMGET', WORKFLOW .. id, 'nonce', 'state', 'starting'))
if known and known ~= ARGV[2] then return 0 end
if known and not starting then return 1 end
if not known then
  if first > 0 then return -1 end
  if is_taken(id) then return 0 end
  for _, kind in ipairs(WORKFLOW_KEYS) do redis.call('DEL', kind .. id) end -- leftovers: there is no workflow of this id
  state = 'running'
  redis.call('HSET', WORKFLOW .. id, 'state', state, 'nonce', ARGV[2], 'policy', ARGV[3], 'last', ARGV[4],
    'left', ARGV[5], 'keep', ARGV[6], 'created', whole(now), 'starting', 1)
end
local nodes, calls, waits = {}, {}, {}
for i = 9, #ARGV, 3 do
  local number = first + (i - 9) / 3
  nodes[#nodes + 1] = number
  nodes[#nodes + 1] = ARGV[i]
  waits[#waits + 1] = number
  waits[#waits + 1] = ARGV[i + 1]
  if ARGV[i + 2] ~= '' then
    calls[#calls + 1] = number
    calls[#calls + 1] = ARGV[i + 2]
  end
end
call_with(nodes, 2, 'HSET', NODES .. id)
call_with(calls, 2, 'HSET', CALLS .. id)
call_with(waits, 2, 'HSET', WAITS .. id)
local is_last = first + #nodes / 2 == total
if is_last then redis.call('HDEL', WORKFLOW .. id, 'starting') end
for _, kind in ipairs(WORKFLOW_KEYS) do
  if state ~= 'running' then -- cancelled meanwhile
    redis.call('PEXPIRE', kind .. id, ARGV[6])
  elseif not is_last then
    redis.call('PEXPIRE', kind .. id, HALF_STARTED_MS)
  elseif first > 0 then
    redis.call('PERSIST', kind .. id)
  end
end
if not is_last or state ~= 'running' then return 1 end
event('workflow_started', id, '', '', 0)
start_ready(id, 0, now)
put_all()
tell()
return unfinished and 2 or 1

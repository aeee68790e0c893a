-- Do a piece of what other scripts deferred of large workflows; see UNFINISHED in workflow.lua.
-- ARGV  1 who does it: while one process is at it, others leave it alone
-- returns  how many pieces are left for the caller
-- Run twice it does the next piece.
local HAND_MS = 200 -- after which another process takes over from one that died
local now, hand = now_ms(), text(UNFINISHED_HAND)
if hand and hand ~= ARGV[1] then return 0 end
local piece = own('LPOP', UNFINISHED)
if not piece then
  if hand then redis.call('DEL', UNFINISHED_HAND) end
  return 0
end
redis.call('SET', UNFINISHED_HAND, ARGV[1], 'PX', HAND_MS)

local function go_on(rest)
  local flow = redis.call('HGET', WORKFLOW .. rest.w, 'state')
  if flow and rest.f then
    start_ready(rest.w, rest.f, now)
  elseif flow then
    pass_on(rest.w, rest.n, read_node(rest.w, rest.n), flow, rest.s, now, rest.p)
  end
end

local done, problem = pcall(go_on, decoded(piece))
if not done then redis.log(redis.LOG_WARNING, 'embarq: a piece of a workflow was dropped: ' .. failure_of(problem)) end
put_all()
tell()
local left = own('LLEN', UNFINISHED)
if left == 0 then redis.call('DEL', UNFINISHED_HAND) end
return left

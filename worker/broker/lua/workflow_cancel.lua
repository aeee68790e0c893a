-- Cancel a workflow: what waits is cancelled at once, what runs is told.
-- ARGV  1 id, 2 life in ms of the results of jobs that waited
-- returns  'cancelled', 'ended', or 'unknown'
-- Run twice it returns 'ended'.
local now, id, life = now_ms(), ARGV[1], tonumber(ARGV[2])
local state = redis.call('HGET', WORKFLOW .. id, 'state')
if not state then return 'unknown' end
if state ~= 'running' then return 'ended' end
end_workflow(id, 'cancelled', now)
for _, text_of in ipairs(redis.call('HVALS', NODES .. id)) do
  local job = cjson.decode(text_of).i
  if job then cancel_job(job, now, life) end
end
sweep()
put_all()
tell()
return 'cancelled'

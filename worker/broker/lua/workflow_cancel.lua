-- Cancel a workflow, a slice of its nodes in each call: waiting jobs are cancelled at once, running ones are signalled.
-- ARGV  1 id, 2 life in ms of the results of jobs that waited, 3 number of the node to continue from, 0 at first
-- returns  'cancelled', 'ended' or 'unknown', and the node to continue from (-1 at the end)
-- The first slice ends the workflow. If no further call comes, a job that still waits is ended by the worker that claims
-- it. Run twice it cancels what still waits, and returns 'ended'.
local JOBS_AT_ONCE = 50
local now, id, life, first = now_ms(), ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local answer = first == 0 and 'ended' or 'cancelled'
local state = redis.call('HGET', WORKFLOW .. id, 'state')
if not state then return {'unknown', -1} end
if state == 'running' and first == 0 then
  end_workflow(id, 'cancelled', now)
  answer = 'cancelled'
elseif state ~= 'cancelled' then
  return {answer, -1} -- it ended by itself, or was retried
end
local following, cancelled = first + SLICE, 0
for place, text_of in ipairs(redis.call('HMGET', NODES .. id, unpack(numbers_from(first)))) do
  local job = text_of and cjson.decode(text_of).i
  if not text_of then
    following = -1
    break
  elseif job and redis.call('EXISTS', JOB .. job) == 1 then
    if cancelled == JOBS_AT_ONCE then
      following = first + place - 1
      break
    end
    cancelled = cancelled + 1
    cancel_job(job, now, life)
  end
end
sweep()
put_all()
tell()
return {answer, following}

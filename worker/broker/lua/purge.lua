-- Cancel what waits in a queue, a slice of it; running jobs are not touched.
-- ARGV  1 queue (sorted set), 2 where in it to continue, 3 result life in ms
-- returns  how many were cancelled, where to continue (-1 at the end)
-- Run twice from the same place it cancels what is there then.
local AT_ONCE = 100 -- a few milliseconds, for which Redis serves nobody else
local now, queue, from, life = now_ms(), ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if not may_hold_jobs(queue) then return {0, -1} end
local ids = own('ZRANGE', queue, from, from + AT_ONCE - 1)
local cancelled, left = 0, 0
for _, id in ipairs(ids) do
  if redis.call('EXISTS', LEASE .. id) == 0 and cancel_job(id, now, life) == 'cancelled' then
    cancelled = cancelled + 1
  else
    left = left + 1
  end
end
sweep()
put_all()
tell()
return {cancelled, #ids < AT_ONCE and -1 or from + left}

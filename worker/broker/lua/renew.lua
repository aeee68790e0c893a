-- Extend leases, and write progress.
-- ARGV  1 lease in ms, then 5 per job: id, queue, token, progress as JSON ('' for no news),
--       keys of the limits that it holds as JSON ('' for none)
-- returns  two lists of ids: leases that are lost, and jobs that plain arq's Job.abort wants stopped
-- Run twice it renews twice.
local now = now_ms()
local lease_ms = tonumber(ARGV[1])
local aborting = redis.call('EXISTS', ABORT) == 1
local lost, aborted = {}, {}

local function renew(id, queue, token, progress, held)
  queue = place_of(queue)
  if text(LEASE .. id) ~= token then
    lost[#lost + 1] = id
    return
  end
  redis.call('PEXPIRE', LEASE .. id, lease_ms)
  if aborting and own('ZSCORE', ABORT, id) then aborted[#aborted + 1] = id end
  if progress ~= '' then
    redis.call('SET', PROGRESS .. id, progress)
    event('progress', id, queue, '', 0)
  end
  own('ZADD', queue, whole(now + lease_ms), id) -- the score of a running job is when its lease ends: then it is due again
  for _, key in ipairs(held ~= '' and cjson.decode(held) or {}) do
    own('ZADD', HOLDERS .. key, 'XX', whole(now + lease_ms), id)
  end
end

for i = 2, #ARGV, 5 do
  local done, problem = pcall(renew, unpack(ARGV, i, i + 4))
  if not done then redis.log(redis.LOG_WARNING, 'embarq: a lease was renewed in part: ' .. failure_of(problem)) end
end
tell()
return {lost, aborted}

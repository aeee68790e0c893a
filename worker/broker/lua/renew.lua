-- Push leases on, and write progress.
-- ARGV  1 lease in ms, then 4 per job: id, queue, token, progress as JSON ('' for no news)
-- returns  two lists of ids: leases that are lost, and jobs that plain arq's Job.abort wants stopped
-- Run twice it renews twice.
local now = now_ms()
local lease_ms = tonumber(ARGV[1])
local aborting = redis.call('EXISTS', ABORT) == 1
local lost, aborted = {}, {}
for i = 2, #ARGV, 4 do
  local id, queue, token, progress = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if text(LEASE .. id) == token then
    redis.call('PEXPIRE', LEASE .. id, lease_ms)
    redis.call('ZADD', queue, whole(now + lease_ms), id)
    if progress ~= '' then
      redis.call('SET', PROGRESS .. id, progress)
      event('progress', id, queue, '', 0)
    end
    if aborting and redis.call('ZSCORE', ABORT, id) then aborted[#aborted + 1] = id end
  else
    lost[#lost + 1] = id
  end
end
tell()
return {lost, aborted}

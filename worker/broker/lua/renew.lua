-- Push leases on, and write progress.
-- ARGV  1 lease in ms, then 5 per job: id, queue, token, progress as JSON ('' for no news),
--       keys of the limits that it holds as JSON ('' for none)
-- returns  two lists of ids: leases that are lost, and jobs that plain arq's Job.abort wants stopped
-- Run twice it renews twice.
local now = now_ms()
local lease_ms = tonumber(ARGV[1])
local aborting = redis.call('EXISTS', ABORT) == 1
local lost, aborted = {}, {}
for i = 2, #ARGV, 5 do
  local id, queue, token, progress = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if text(LEASE .. id) == token then
    redis.call('PEXPIRE', LEASE .. id, lease_ms)
    own('ZADD', queue, whole(now + lease_ms), id)
    if ARGV[i + 4] ~= '' then
      for _, key in ipairs(cjson.decode(ARGV[i + 4])) do
        own('ZADD', HOLDERS .. key, 'XX', whole(now + lease_ms), id)
      end
    end
    if progress ~= '' then
      redis.call('SET', PROGRESS .. id, progress)
      event('progress', id, queue, '', 0)
    end
    if aborting and own('ZSCORE', ABORT, id) then aborted[#aborted + 1] = id end
  else
    lost[#lost + 1] = id
  end
end
tell()
return {lost, aborted}

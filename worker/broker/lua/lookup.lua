-- Read all that is known of a job, at one moment. A job with a payload but no place in its queue is requeued there.
-- ARGV  1 id
-- returns  now in ms, result (or the trace of one that was not kept) or '', payload or '', lease value or '', tries, due
--          time in ms or -1, queue or '', record of its run or '', progress as JSON or '', records of its earlier tries
-- Run twice it returns the same.
local now, id = now_ms(), ARGV[1]
local result = text(RESULT .. id)
local past = redis.pcall('LRANGE', HISTORY .. id, 0, -1)
if past.err then past = {} end
if result then return {whole(now), result, '', '', 0, '-1', '', '', '', past} end
local payload = text(JOB .. id)
if not payload then return {whole(now), text(TRACE .. id) or '', '', '', 0, '-1', '', '', '', {}} end
local record = decoded(payload)
if mend_place(id, record, now) then event('queued', id, record.o.z, '', 0) end
local queue = find_queue(id, record)
local score = own('ZSCORE', queue, id)
local due = score and whole(bounded(score, 0, PARKED_SCORE, now)) or '-1'
tell()
return {whole(now), '', payload, text(LEASE .. id) or '', tries_of(id), due, queue,
  text(RUN .. id) or '', text(PROGRESS .. id) or '', past}

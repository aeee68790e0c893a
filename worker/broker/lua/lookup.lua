-- Read all that is known of a job, at one moment.
-- ARGV  1 id
-- returns  now in ms, result or '', payload or '', lease value or '', tries, due time in ms or -1, queue or '',
--          record of its run or '', progress as JSON or '', records of its earlier tries
local now, id = now_ms(), ARGV[1]
local result = text(RESULT .. id)
local history = redis.call('LRANGE', HISTORY .. id, 0, -1)
if result then return {whole(now), result, '', '', 0, '-1', '', '', '', history} end
local payload = text(JOB .. id)
if not payload then return {whole(now), '', '', '', 0, '-1', '', '', '', {}} end
local readable, record = pcall(cjson.decode, payload)
local queue = find_queue(id, readable and record)
local score = redis.call('ZSCORE', queue, id)
local due = score and whole(tonumber(score)) or '-1'
return {whole(now), '', payload, text(LEASE .. id) or '', tonumber(text(TRIES .. id) or 0) or 0, due, queue,
  text(RUN .. id) or '', text(PROGRESS .. id) or '', history}

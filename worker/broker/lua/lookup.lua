-- Read all that is known of a job, at one moment.
-- ARGV  1 id
-- returns  now in ms, result or '', payload or '', lease value or '', tries, due time in ms or -1, queue or '',
--          fields and values of its run
local now, id = now_ms(), ARGV[1]
local result = text(RESULT .. id)
if result then return {whole(now), result, '', '', 0, '-1', '', {}} end
local payload = text(JOB .. id)
if not payload then return {whole(now), '', '', '', 0, '-1', '', {}} end
local queues = {}
local ok, record = pcall(cjson.decode, payload)
if ok and type(record) == 'table' and type(record.o) == 'table' and type(record.o.z) == 'string' then
  queues = {record.o.z}
else
  queues = redis.call('SMEMBERS', QUEUES) -- a plain client does not say which; there are few queues
  queues[#queues + 1] = QUEUE
end
local due, queue = '-1', ''
for _, candidate in ipairs(queues) do
  local score = redis.call('ZSCORE', candidate, id)
  if score then due, queue = whole(tonumber(score)), candidate break end
end
return {whole(now), '', payload, text(LEASE .. id) or '', tonumber(text(TRIES .. id) or 0) or 0, due, queue,
  redis.call('HGETALL', RUN .. id)}

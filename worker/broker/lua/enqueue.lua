-- Queue jobs, each once.
-- ARGV  6 per job: id, queue (sorted set), delay in ms, due time in ms ('' to use the delay), nonce, payload as a
--       JSON object without its times "du" and "et"
-- returns  per job: 1 created, 0 another job has this id
-- Run twice with the same nonces, it changes nothing and returns the same: a client whose connection was cut asks
-- again. The nonce is in the payload, and in the result once the job has ended.
local now = now_ms()
local now_text = whole(now)
local created, queues, ids = {}, {}, {}
for i = 1, #ARGV, 6 do
  local id, queue, nonce = ARGV[i], ARGV[i + 1], ARGV[i + 4]
  local kept = false
  if redis.call('EXISTS', JOB .. id, RESULT .. id, TRIES .. id) > 0 then
    kept = text(JOB .. id) or text(RESULT .. id)
    if not kept then redis.call('DEL', TRIES .. id, RUN .. id, HISTORY .. id, PROGRESS .. id) end -- of a lost payload
  end
  if kept then
    created[#created + 1] = string.find(kept, '"n":"' .. nonce .. '"', 1, true) and 1 or 0
  else
    local due, at = now, now_text
    if ARGV[i + 3] ~= '' then due = math.max(now, tonumber(ARGV[i + 3])) else due = now + tonumber(ARGV[i + 2]) end
    if due > now then at = whole(due) end
    redis.call('SET', JOB .. id, string.sub(ARGV[i + 5], 1, -2) .. ',"du":' .. at .. ',"et":' .. now_text .. '}')
    queues[queue] = queues[queue] or {}
    table.insert(queues[queue], at)
    table.insert(queues[queue], id)
    ids[#ids + 1] = id
    event(due > now and 'deferred' or 'queued', id, queue, '', 0)
    created[#created + 1] = 1
  end
end
if redis.call('EXISTS', ABORT) == 1 then call_with(ids, 1, 'ZREM', ABORT) end
for queue, entries in pairs(queues) do
  call_with(entries, 2, 'ZADD', queue)
  redis.call('SADD', QUEUES, queue)
  wake(queue)
end
tell()
return created

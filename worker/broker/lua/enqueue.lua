-- Queue jobs, each once.
-- ARGV  6 per job: id, queue (sorted set), delay in ms, due time in ms ('' to use the delay), nonce, payload as a
--       JSON object without its times "du" and "et"
-- returns  per job: 1 created, 0 another job has this id
-- Run twice with the same nonces, it changes nothing and returns the same: a client whose connection was cut asks
-- again. The nonce is in the payload, and in the result once the job has ended.
local now = now_ms()
local created = {}
for i = 1, #ARGV, 6 do
  local id, queue, nonce = ARGV[i], ARGV[i + 1], ARGV[i + 4]
  local present = redis.call('EXISTS', JOB .. id, RESULT .. id) > 0
  if present then
    local kept = text(JOB .. id) or text(RESULT .. id) or ''
    created[#created + 1] = string.find(kept, '"n":"' .. nonce .. '"', 1, true) and 1 or 0
  else
    local due = now + tonumber(ARGV[i + 2])
    if ARGV[i + 3] ~= '' then due = math.max(now, tonumber(ARGV[i + 3])) end
    local payload = string.sub(ARGV[i + 5], 1, -2) .. ',"du":' .. whole(due) .. ',"et":' .. whole(now) .. '}'
    redis.call('SET', JOB .. id, payload)
    redis.call('ZADD', queue, whole(due), id)
    redis.call('ZREM', ABORT, id)
    redis.call('DEL', TRIES .. id, RUN .. id, HISTORY .. id)
    redis.call('SADD', QUEUES, queue)
    event(due > now and 'deferred' or 'queued', id, queue, '', 0)
    wake(queue)
    created[#created + 1] = 1
  end
end
return created

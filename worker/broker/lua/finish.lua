-- Settle tries of jobs, each only while its lease is held.
-- ARGV  7 per try: id, queue, token, action, value, milliseconds, worker
--       action 'retry' or 'release': milliseconds until due; value is the record of the try for a retry, '' for a
--       release, which gives the try back. A job that is to be cancelled is due at once, to be ended by its claim.
--       any other action is the final state: value is the result, milliseconds its life (-1 for ever)
-- returns  per try: 1 stored, 0 refused because the lease was lost
-- Run twice, the second run recognises what the first one stored by the token, and returns 1 again.
local now = now_ms()
local answers = {}

local function put_back(id, queue, token, action, record, delay)
  redis.call('DEL', LEASE .. id)
  if record ~= '' then remember_try(id, record) end
  if redis.call('ZSCORE', ABORT, id) then delay = 0 end
  redis.call('HSET', RUN .. id, 'state', action, 'settled', token, 'lost', 0)
  if action == 'release' then
    local tries = tonumber(text(TRIES .. id) or 1) or 1
    redis.call('SET', TRIES .. id, whole(math.max(0, tries - 1)))
  end
  redis.call('ZADD', queue, whole(now + delay), id)
  wake(queue)
end

local function stored_before(id, token, action)
  if action == 'retry' or action == 'release' then
    return redis.call('HGET', RUN .. id, 'settled') == token
  end
  return string.find(text(RESULT .. id) or '', '"lease":"' .. token .. '"', 1, true) ~= nil
end

for i = 1, #ARGV, 7 do
  local id, queue, token, action = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local value, ms, worker = ARGV[i + 4], tonumber(ARGV[i + 5]), ARGV[i + 6]
  if text(LEASE .. id) == token then
    local try = text(TRIES .. id) or 0
    if action == 'retry' or action == 'release' then
      put_back(id, queue, token, action, value, ms)
    else
      close(id, queue, action, value, ms)
    end
    event(action, id, queue, worker, try)
    answers[#answers + 1] = 1
  elseif stored_before(id, token, action) then
    answers[#answers + 1] = 1
  else
    event('refused', id, queue, worker, 0)
    answers[#answers + 1] = 0
  end
end
return answers

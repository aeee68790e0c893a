-- Queue jobs, each once.
-- ARGV  7 per job: id, queue (sorted set), delay in ms, due time in ms ('' to use the delay), nonce, payload as a
--       JSON object without its times "du" and "et", how it is unique ('' for by its id only): 'u', 'd' or 't', ms, key,
--       by colons; see docs/state-machine.md
-- returns  per job: 1 created, 0 another job has this id, or the id of the job that stands for it
-- Run twice with the same nonces, it changes nothing and returns the same: a client whose connection was cut asks
-- again. The nonce is in the payload, and in the result once the job has ended.
local now = now_ms()
local answers = {}
local DAY = 86400000

-- The queue of a job that waits for its first start; false for any other.
local function waits_in(id)
  local payload = text(JOB .. id)
  if not payload or redis.call('EXISTS', LEASE .. id, TRIES .. id) > 0 then return false end
  local readable, record = pcall(cjson.decode, payload)
  local queue = find_queue(id, readable and record)
  return redis.call('ZSCORE', queue, id) and queue
end

-- The newer call takes the waiting one's place.
local function replace(id, queue, due, payload)
  redis.call('ZREM', waits_in(id), id)
  put(id, queue, due, now, payload)
end

-- What becomes of a call that is unique: the id of the job that stands for it, or when a job of its own is due.
local function folded(unique, id, queue, due, payload)
  local mode, ms, key = string.match(unique, '^(%a):(%d+):(.*)$')
  local name = UNIQUE .. key
  local known, slot = string.match(text(name) or '', '^(%S+) (%d+)$')
  ms = tonumber(ms)
  if mode == 'u' then
    if known then return known end
    redis.call('SET', name, id .. ' 0', 'PX', whole(ms))
    return false, due
  end
  local waiting = known and waits_in(known)
  if mode == 'd' then
    due = now + ms
  elseif waiting then
    due = tonumber(slot)
  elseif known then
    due = math.max(now, tonumber(slot) + ms)
  end
  if waiting then replace(known, queue, due, payload) end
  redis.call('SET', name, (waiting and known or id) .. ' ' .. whole(due), 'PX', whole(ms + DAY))
  return waiting and known, due
end

for i = 1, #ARGV, 7 do
  local id, queue, nonce, payload, unique = ARGV[i], ARGV[i + 1], ARGV[i + 4], ARGV[i + 5], ARGV[i + 6]
  local kept = false
  if redis.call('EXISTS', JOB .. id, RESULT .. id, TRIES .. id) > 0 then
    kept = text(JOB .. id) or text(RESULT .. id)
    if not kept then redis.call('DEL', TRIES .. id, RUN .. id, HISTORY .. id, PROGRESS .. id) end -- of a lost payload
  end
  if kept then
    answers[#answers + 1] = string.find(kept, '"n":"' .. nonce .. '"', 1, true) and 1 or 0
  else
    local due = ARGV[i + 3] ~= '' and tonumber(ARGV[i + 3]) or now + tonumber(ARGV[i + 2])
    local instead = false
    if unique ~= '' then instead, due = folded(unique, id, queue, due, payload) end
    if instead then
      answers[#answers + 1] = instead
    else
      put(id, queue, due, now, payload)
      answers[#answers + 1] = 1
    end
  end
end
put_all()
tell()
return answers

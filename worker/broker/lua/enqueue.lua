-- Queue jobs, each once.
-- ARGV  7 per job: id, queue (sorted set), delay in ms, due time in ms ('' to use the delay), request id, payload as a
--       JSON object without its times "du" and "et", how it is unique ('' for by its id only): 'u', 'd' or 't', ms, key,
--       separated by colons; see docs/state-machine.md
-- returns  per job: 1 created, 0 another job has this id, or the id of the job that stands for it
-- All is checked before the first write: one wrong call and nothing is queued, with an error that says which.
-- Run twice with the same request ids, it changes nothing and returns the same: a client whose connection was cut
-- repeats its call. The request id is in the payload, in the result once the job has ended, or in the trace of one without.
local now = now_ms()
local answers = {}
local DAY = 86400000

local function wrong_with(id, queue, delay, due, request_id, payload, unique)
  if not unique then return 'a call must have seven values' end
  if #id < 1 or #id > ID_BYTES or not is_text(id) then return 'the id must be 1 to ' .. ID_BYTES .. ' bytes of UTF-8' end
  if not may_hold_jobs(queue) then return 'the queue must be a sorted set with a name of at most ' .. ID_BYTES .. ' bytes, no other key of arq or Embarq' end
  if not is_ms(due ~= '' and due or delay) then return 'its time must be between 1970 and 9999' end
  if not string.find(request_id, '^%w+$') then return 'the request id must be letters and digits' end
  if string.byte(payload, 1) ~= 123 or string.byte(payload, -1) ~= 125 then return 'the payload must be a JSON object' end
  local mode, period = string.match(unique, '^([udt]):(%d+):.')
  if unique ~= '' and not (mode and #period < 13 and tonumber(period) >= 1 and #unique <= UNIQUE_BYTES) then
    return 'what makes it unique must be a mode, 1 ms or more, and a key'
  end
end

for i = 1, #ARGV, 7 do
  local wrong = wrong_with(unpack(ARGV, i, i + 6))
  if wrong then return redis.error_reply(REFUSED .. ' call ' .. whole((i + 6) / 7) .. ': ' .. wrong) end
end

-- The queue of a job that waits for its first start; false for any other.
local function waits_in(id)
  local payload = text(JOB .. id)
  if not payload or redis.call('EXISTS', LEASE .. id, TRIES .. id) > 0 then return false end
  local queue = find_queue(id, decoded(payload))
  return own('ZSCORE', queue, id) and queue
end

-- Replace the waiting call by a newer one.
local function replace(id, queue, due, payload)
  redis.call('ZREM', waits_in(id), id)
  put(id, queue, due, now, payload)
end

-- What becomes of a unique call: the id of the job that stands for it, or when a job of its own is due. The record of a
-- debounced or throttled call is kept a day beyond its time, as its job may start late; `claim` shortens it then.
local function folded(unique, id, queue, due, payload)
  local mode, ms, key = string.match(unique, '^(%a):(%d+):(.*)$')
  local name = UNIQUE .. key
  local known, slot = string.match(text(name) or '', '^(%S+) (%d+)$')
  ms, slot = tonumber(ms), bounded(slot, 0, MOST_MS, now)
  if mode == 'u' then
    if known then return known end
    redis.call('SET', name, id .. ' 0', 'PX', whole(ms))
    return false, due
  end
  local waiting = known and waits_in(known)
  if mode == 'd' then
    due = now + ms
  elseif waiting then
    due = math.max(now, slot) -- a slot that has passed, or none, as `unique_for` leaves it: it may start now
  elseif known then
    due = math.max(now, slot + ms)
  end
  if waiting then replace(known, queue, due, payload) end
  redis.call('SET', name, (waiting and known or id) .. ' ' .. whole(due), 'PX', whole(math.max(0, due - now) + ms + DAY))
  return waiting and known, due
end

-- Whether a call is known: 1 for this very call, 0 for another one under its id, nil for neither. A job that had lost its
-- place in the queue gets it back.
local function known_as(id, request_id)
  if redis.call('EXISTS', JOB .. id, RESULT .. id, TRIES .. id, TRACE .. id) == 0 then return nil end
  local kept = is_taken(id)
  local same = kept and string.find(kept, '"n":"' .. request_id .. '"', 1, true)
  if kept then
    if redis.call('EXISTS', RESULT .. id) == 0 then mend_place(id, decoded(kept), now) end
    return same and 1 or 0
  end
  local trace = text(TRACE .. id)
  if trace and string.find(trace, '"n":"' .. request_id .. '"', 1, true) then return 1 end
  redis.call('DEL', TRACE .. id, TRIES .. id, RUN .. id, HISTORY .. id, PROGRESS .. id) -- of a lost payload
  return nil
end

-- Whether this is a durable call whose job ended so long ago that nothing else of it is left.
local function has_ended(id, request_id, payload)
  if not string.find(payload, '"db":true', 1, true) then return false end
  local known = text(ENDED .. id)
  if known and known ~= request_id then redis.call('DEL', ENDED .. id) end
  return known == request_id
end

for i = 1, #ARGV, 7 do
  local id, queue, request_id, payload, unique = ARGV[i], ARGV[i + 1], ARGV[i + 4], ARGV[i + 5], ARGV[i + 6]
  local answer = known_as(id, request_id)
  if not answer then
    local due = ARGV[i + 3] ~= '' and tonumber(ARGV[i + 3]) or now + tonumber(ARGV[i + 2])
    local instead = false
    if unique ~= '' then instead, due = folded(unique, id, queue, due, payload) end
    if not instead and not has_ended(id, request_id, payload) then put(id, queue, due, now, payload) end
    answer = instead or 1
  end
  answers[#answers + 1] = answer
end
put_all()
tell()
return answers

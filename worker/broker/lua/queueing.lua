-- Included before the scripts that queue jobs. `put_all` must follow the calls of `put`.
local put_in, put_ids = {}, {}

-- Queue a job: its payload is a JSON object without its times. Where the queue's key holds something else by now, it goes
-- to the default queue.
local function put(id, queue, due, now, payload)
  queue = place_of(queue)
  local at = whole(bounded(math.max(due, now), 0, MOST_MS, now))
  redis.call('SET', JOB .. id, string.sub(payload, 1, -2) .. ',"du":' .. at .. ',"et":' .. whole(now) .. '}')
  put_in[queue] = put_in[queue] or {}
  table.insert(put_in[queue], at)
  table.insert(put_in[queue], id)
  put_ids[#put_ids + 1] = id
  event(due > now and 'deferred' or 'queued', id, queue, '', 0)
end

-- A job of the same id that was cancelled before must not cancel this one: its entry in the abort set goes.
local function put_all()
  if #put_ids > 0 and redis.call('EXISTS', ABORT) == 1 then call_with(put_ids, 1, 'ZREM', ABORT) end
  for queue, entries in pairs(put_in) do
    call_with(entries, 2, 'ZADD', queue)
    if own('SADD', ACTIVE, queue) == 1 then own('SADD', QUEUES, queue) end
    wake(queue)
  end
  put_in, put_ids = {}, {}
end

-- Whether there is a job under an id, or what is left of one. What somebody else put under an id that only our own code
-- makes does not count, and is removed.
local function is_taken(id)
  local known = text(JOB .. id) or text(RESULT .. id)
  if known and is_foreign(id, known) then
    redis.call('DEL', JOB .. id, RESULT .. id, TRIES .. id, RUN .. id, HISTORY .. id)
    return false
  end
  return known
end

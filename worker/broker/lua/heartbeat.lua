-- Record that a worker lives, forget workers that fell silent, and queues that nobody has used or served for a day.
-- ARGV  1 worker id, 2 its record as JSON, 3 milliseconds until it counts as dead (0: it leaves now), 4 most bytes of the
--       stream of events, then its queues
-- returns  the queues that are known, as sorted sets; of very many, some
local now, worker, ttl, bytes = now_ms(), ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local DAY, LOOKS = 86400000, 50

-- A queue is seen when it is served by name or holds something; jobs of plain arq clients bring it back into use.
local function look_at(queue)
  local size = is_queue(queue) and redis.pcall('ZCARD', queue) or 0
  if size == 0 or (type(size) == 'table' and not is_arqs(queue)) then return false end
  own('SADD', ACTIVE, queue)
  own('ZADD', QUEUES_SEEN, whole(now), queue)
  return true
end

local function forget_unused()
  for _, queue in ipairs(own('ZRANGEBYSCORE', QUEUES_SEEN, '-inf', whole(now - DAY), 'LIMIT', 0, LOOKS)) do
    if not look_at(queue) then
      own('SREM', QUEUES, queue)
      own('SREM', ACTIVE, queue)
      redis.call('ZREM', QUEUES_SEEN, queue)
    end
  end
  for _, queue in ipairs(own('SRANDMEMBER', QUEUES, LOOKS)) do own('ZADD', QUEUES_SEEN, 'NX', whole(now), queue) end
end

-- Queues that only plain arq clients or older releases have filled are found here, in slices.
local function find_filled()
  local known = redis.call('SCARD', QUEUES) > QUEUES_ASKED and own('SRANDMEMBER', QUEUES, SLICE) or own('SMEMBERS', QUEUES)
  local found = {}
  for _, queue in ipairs(known) do
    look_at(queue)
    if is_queue(queue) then found[#found + 1] = queue else redis.call('SREM', QUEUES, queue) end
  end
  return found
end

-- Entries differ in size, so the share that is cut is an estimate, and what is left is measured again.
local function trim_events()
  for _ = 1, 8 do
    local used = redis.pcall('MEMORY', 'USAGE', EVENTS, 'SAMPLES', 100)
    if type(used) ~= 'number' or used <= bytes then return end
    redis.call('XTRIM', EVENTS, 'MAXLEN', whole(math.floor(redis.call('XLEN', EVENTS) * bytes / used * 0.9)))
  end
end

if ttl == 0 then
  redis.call('DEL', WORKER .. worker, CONTROL .. worker)
  own('ZREM', WORKERS, worker)
else
  redis.call('SET', WORKER .. worker, ARGV[2], 'PX', ttl)
  own('ZADD', WORKERS, whole(now + ttl), worker)
  for i = 5, #ARGV do
    own('SADD', QUEUES, ARGV[i])
    own('ZADD', QUEUES_SEEN, whole(now), ARGV[i])
  end
  forget_unused()
  if bytes > 0 then trim_events() end
end
own('ZREMRANGEBYSCORE', WORKERS, '-inf', now)
return find_filled()

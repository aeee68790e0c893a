-- Put in front of every script, after the constants of keys.py. Keys are made from ids here, so a script does not
-- run on Redis Cluster; see docs/decisions.

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function whole(number)
  return string.format('%.0f', number)
end

-- The string under a key; false when there is none or it holds another type.
local function text(key)
  local value = redis.pcall('GET', key)
  if type(value) == 'table' then return false end
  return value
end

local function event(name, id, queue, worker, try)
  redis.call('XADD', EVENTS, 'MAXLEN', '~', EVENTS_KEPT, '*',
    'event', name, 'id', id, 'queue', queue, 'worker', worker, 'try', try)
end

-- Leave one token for an idle worker of the queue; one is enough, since whoever takes it claims all it can and
-- leaves another when more is due.
local function wake(queue)
  local list = WAKE .. string.gsub(queue, '!%a+$', '')
  if redis.call('LLEN', list) == 0 then redis.call('RPUSH', list, '1') end
end

-- Keep the record of a try that did not end its job, among the newest ones.
local function remember_try(id, record)
  redis.call('RPUSH', HISTORY .. id, record)
  redis.call('LTRIM', HISTORY .. id, -TRIES_KEPT, -1)
end

-- End a job: its result stays, for `life` ms or for ever (-1), and with it its earlier tries; the rest goes.
local function close(id, queue, state, result, life)
  if life < 0 then
    redis.call('SET', RESULT .. id, result)
  else
    redis.call('SET', RESULT .. id, result, 'PX', whole(life))
  end
  if redis.call('EXISTS', HISTORY .. id) == 1 then
    if life < 0 then redis.call('PERSIST', HISTORY .. id) else redis.call('PEXPIRE', HISTORY .. id, whole(life)) end
  end
  redis.call('DEL', JOB .. id, LEASE .. id, TRIES .. id, RUN .. id)
  redis.call('ZREM', queue, id)
  redis.call('ZREM', ABORT, id)
  redis.call('PUBLISH', DONE .. id, state)
end

-- The sorted set that holds a waiting job. A plain client does not write it into the payload; there are few queues.
local function find_queue(id, record)
  if type(record) == 'table' and type(record.o) == 'table' and type(record.o.z) == 'string' then return record.o.z end
  for _, queue in ipairs(redis.call('SMEMBERS', QUEUES)) do
    if redis.call('ZSCORE', queue, id) then return queue end
  end
  return QUEUE
end

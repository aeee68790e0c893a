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

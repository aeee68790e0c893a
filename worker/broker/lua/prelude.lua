-- Put in front of every script, after the constants of keys.py. Keys are made from ids here, so a script does not
-- run on Redis Cluster; see docs/decisions. Calls are dear: what can be said of many jobs at once, is.

local SLICE = 500 -- most jobs in one call; Lua passes at most some thousand arguments

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

-- A command with a list of arguments behind its first ones, in slices of whole groups.
local function call_with(list, group, ...)
  local head, size = {...}, SLICE * group
  for from = 1, #list, size do
    local arguments = {unpack(head)}
    for i = from, math.min(from + size - 1, #list) do arguments[#arguments + 1] = list[i] end
    redis.call(unpack(arguments))
  end
end

-- What happened in this script, told to the stream in one entry by `tell`.
local happened = {}

local function event(name, id, queue, worker, try)
  happened[#happened + 1] = {name, id, queue, worker, tonumber(try) or 0}
end

-- Jobs that ended in this script, for the history, where one is kept. Its writer removes what it has written.
local recorded, recording = {}, nil

local function record(id, result, try)
  if recording == nil then recording = redis.call('EXISTS', RECORDING) == 1 end
  if not recording then return end
  local past = try ~= 1 and redis.call('LRANGE', HISTORY .. id, 0, -1) or {}
  recorded[#recorded + 1] = '{"r":' .. result .. ',"h":[' .. table.concat(past, ',') .. ']}'
end

local function tell()
  if #happened > 0 then
    redis.call('XADD', EVENTS, 'MAXLEN', '~', EVENTS_KEPT, '*', 'e', cjson.encode(happened))
  end
  if #recorded > 0 then
    redis.call('XADD', RECORDS, 'MAXLEN', '~', RECORDS_KEPT, '*', 'e', '[' .. table.concat(recorded, ',') .. ']')
  end
end

-- The sorted set of a queue's normal level, from that of any level.
local function base_of(queue)
  return (string.gsub(queue, '!%a+$', ''))
end

-- Leave one token for an idle worker of the queue; one is enough, since whoever takes it claims all it can and
-- leaves another when more is due.
local function wake(queue)
  local list = WAKE .. base_of(queue)
  if redis.call('LLEN', list) == 0 then redis.call('RPUSH', list, '1') end
end

-- Keep the record of a try that did not end its job, among the newest ones.
local function remember_try(id, record)
  redis.call('RPUSH', HISTORY .. id, record)
  redis.call('LTRIM', HISTORY .. id, -TRIES_KEPT, -1)
end

-- What is written of a job between its first claim and its end: its state, who runs it or the token that was
-- settled last, the start of its last try, and how many leases were lost in a row.
local function read_run(id)
  local state, who, started, lost = string.match(text(RUN .. id) or '', '^(%a+) (%S+) (%d+) (%d+)$')
  return state, who, started, tonumber(lost) or 0
end

local function run_record(state, who, started, lost)
  return state .. ' ' .. who .. ' ' .. started .. ' ' .. lost
end

-- End a job: its result stays, for `life` ms or for ever (-1), and with it its earlier tries. `sweep` must follow.
local ended, ended_in = {}, {}

local function close(id, queue, state, result, life, try)
  record(id, result, try)
  if life < 0 then
    redis.call('SET', RESULT .. id, result)
    if try ~= 1 then redis.call('PERSIST', HISTORY .. id) end
  else
    redis.call('SET', RESULT .. id, result, 'PX', whole(life))
    if try ~= 1 then redis.call('PEXPIRE', HISTORY .. id, whole(life)) end
  end
  for _, kind in ipairs({JOB, LEASE, TRIES, RUN, PROGRESS}) do ended[#ended + 1] = kind .. id end
  ended_in[queue] = ended_in[queue] or {}
  table.insert(ended_in[queue], id)
  redis.call('PUBLISH', DONE .. id, state)
end

-- Remove what is left of the jobs that were closed.
local function sweep()
  call_with(ended, 5, 'DEL')
  local aborting = redis.call('EXISTS', ABORT) == 1
  for queue, ids in pairs(ended_in) do
    call_with(ids, 1, 'ZREM', queue)
    if aborting then call_with(ids, 1, 'ZREM', ABORT) end
  end
  ended, ended_in = {}, {}
end

-- The sorted set that holds a waiting job. A plain client does not write it into the payload; there are few queues.
local function find_queue(id, record)
  if type(record) == 'table' and type(record.o) == 'table' and type(record.o.z) == 'string' then return record.o.z end
  for _, queue in ipairs(redis.call('SMEMBERS', QUEUES)) do
    if redis.call('ZSCORE', queue, id) then return queue end
  end
  return QUEUE
end

-- Included before every script, after the constants of keys.py. Keys are made from ids here, so a script does not run on
-- Redis Cluster; see docs/decisions. Each redis.call costs time beside its command's, so what can be done for many jobs in
-- one call, is. Redis rolls nothing back: a script checks its input before its first write, and commands on keys that
-- somebody else may have filled go through `own`.

local SLICE = 500 -- most jobs in one call: `unpack` fails beyond Lua's stack of some 8,000 values

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Digits without an exponent: `tostring` writes 1.7e+12 for a time in milliseconds.
local function whole(number)
  return string.format('%.0f', number)
end

-- A number between two others, from text that may be anything; `default` where it is not a number, or NaN.
local function bounded(value, low, high, default)
  local number = tonumber(value)
  if not number or number ~= number then return default end
  return math.min(high, math.max(low, number))
end

local function is_ms(value)
  local number = tonumber(value)
  return number ~= nil and number >= 0 and number <= MOST_MS
end

-- The string under a key; false when there is none or it holds another type.
local function text(key)
  local value = redis.pcall('GET', key)
  if type(value) == 'table' then return false end
  return value
end

-- Whether arq or we keep something else than a queue under a key.
local function is_kept(key)
  for _, start in ipairs({TOKEN, JOB, LEASE, TRIES, RESULT}) do
    if string.sub(key, 1, #start) == start then return true end
  end
  return key == ABORT
end

-- Whether a queue's key has the form that arq and we give them.
local function is_arqs(queue)
  if string.sub(queue, 1, #QUEUE) ~= QUEUE then return false end
  local behind = string.sub(queue, #QUEUE + 1, #QUEUE + 1)
  return behind == '' or behind == ':' or behind == '!'
end

-- Rename a key of ours that holds something unusable; `embarq doctor` reports it. A queue under a key of the user's choice
-- is never renamed: it may be somebody else's by now.
local function set_aside(key)
  if not is_kept(key) and not is_arqs(key) then error('another type is under ' .. key) end
  redis.call('RENAME', key, DAMAGED .. key)
  redis.call('PEXPIRE', DAMAGED .. key, DAMAGED_KEPT_MS)
  if redis.call('TYPE', DAMAGED_KEYS).ok ~= 'zset' then redis.call('DEL', DAMAGED_KEYS) end
  redis.call('ZADD', DAMAGED_KEYS, whole(now_ms()), string.sub(key, 1, ID_BYTES))
  redis.call('ZREMRANGEBYRANK', DAMAGED_KEYS, 0, -DAMAGED_SHOWN - 1)
  redis.log(redis.LOG_WARNING, 'embarq: a key of another type was set aside: ' .. string.sub(key, 1, ID_BYTES))
end

-- A command on a key of ours, its first argument. Where somebody put another type there, that is set aside first.
local function own(...)
  local answer = redis.pcall(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if not string.find(answer.err, 'WRONGTYPE', 1, true) then error(answer.err) end
  set_aside((select(2, ...)))
  return redis.call(...)
end

-- What went wrong with one item, as an answer for it alone.
local function failure_of(problem)
  return tostring(type(problem) == 'table' and problem.err or problem)
end

-- A command with a list of arguments after its first ones, in slices of whole groups.
local function call_with(list, group, ...)
  local head, size = {...}, SLICE * group
  for from = 1, #list, size do
    local arguments = {unpack(head)}
    for i = from, math.min(from + size - 1, #list) do arguments[#arguments + 1] = list[i] end
    own(unpack(arguments))
  end
end

-- Whether bytes are UTF-8 (the table of RFC 3629, 4) without NUL, as Postgres and JSON want it. Sequences are replaced,
-- not removed: what stands before and after one must not form a new one.
local function is_text(bytes)
  if not string.find(bytes, '[%z\128-\255]') then return true end
  local rest = bytes
  for _, sequence in ipairs({'[\194-\223][\128-\191]', '\224[\160-\191][\128-\191]', '\237[\128-\159][\128-\191]',
    '[\225-\236\238\239][\128-\191][\128-\191]', '\240[\144-\191][\128-\191][\128-\191]',
    '[\241-\243][\128-\191][\128-\191][\128-\191]', '\244[\128-\143][\128-\191][\128-\191]'}) do
    rest = string.gsub(rest, sequence, ' ')
  end
  return not string.find(rest, '[%z\128-\255]')
end

-- An id or a name as it may be shown: cut, and readable whatever its bytes.
local function printable(bytes)
  if #bytes <= ID_BYTES and is_text(bytes) then return bytes end
  return (string.gsub(string.sub(bytes, 1, ID_BYTES), '[%c\128-\255]', '?'))
end

-- Append to a stream. One of another type, or whose last id is the highest possible, is set aside.
local function append(stream, most, ...)
  local answer = redis.pcall('XADD', stream, 'MAXLEN', '~', most, '*', ...)
  if type(answer) == 'table' and answer.err then
    set_aside(stream)
    redis.call('XADD', stream, 'MAXLEN', '~', most, '*', ...)
  end
end

-- What happened in this script, written to the stream by `tell`. Ids and queues must be text.
local happened = {}

local function event(name, id, queue, worker, try)
  happened[#happened + 1] = {name, id, queue, worker, tonumber(try) or 0}
end

-- Events go to the stream in entries of bounded size, so that bounding their number bounds the stream's bytes.
local function tell_events(from, to)
  local entry = cjson.encode({unpack(happened, from, to)})
  if #entry <= EVENT_BYTES then return append(EVENTS, EVENTS_KEPT, 'e', entry) end
  if from == to then return end
  local middle = math.floor((from + to) / 2)
  tell_events(from, middle)
  tell_events(middle + 1, to)
end

-- Add to a counter; one that is not a number starts again.
local function add_to(counter, number)
  local answer = redis.pcall('INCRBY', counter, whole(number))
  if type(answer) ~= 'table' then return answer end
  redis.call('SET', counter, whole(math.max(0, number)))
  return number
end

-- Jobs that ended in this script, for the history, where one is kept: the key RECORDING says how many bytes may wait for
-- the writer, who removes what it has written. Beyond that, the oldest are dropped, and counted.
local recorded, recorded_bytes, recording = {}, 0, nil

local function drop_oldest(bytes, most)
  for _ = 1, 1000 do -- bounds this script; the next one continues
    if bytes <= most and redis.call('XLEN', RECORDS) <= RECORDS_KEPT then return end
    local oldest = redis.call('XRANGE', RECORDS, '-', '+', 'COUNT', 1)[1]
    if not oldest then return redis.call('SET', RECORDS_BYTES, 0) end
    local entry = {}
    for i = 1, #oldest[2], 2 do entry[oldest[2][i]] = oldest[2][i + 1] end
    redis.call('XDEL', RECORDS, oldest[1])
    add_to(RECORDS_DROPPED, bounded(entry.c, 1, 1e6, 1))
    bytes = add_to(RECORDS_BYTES, -#(entry.e or ''))
  end
end

local function tell_recorded()
  if #recorded == 0 then return end
  local entry = '[' .. table.concat(recorded, ',') .. ']'
  append(RECORDS, 2 * RECORDS_KEPT, 'e', entry, 'c', #recorded)
  drop_oldest(add_to(RECORDS_BYTES, #entry), recording)
  recorded, recorded_bytes = {}, 0
end

local function record(id, result, try)
  if recording == nil then
    local most = text(RECORDING)
    recording = most and bounded(most, 0, 1e15, 0)
    if recording and recording < RECORD_BYTES then recording = RECORDS_MOST end -- the release before wrote 1
  end
  if not recording or #id > ID_BYTES or not is_text(id) then return end
  local past = try ~= 1 and own('LRANGE', HISTORY .. id, 0, -1) or {}
  local one = '{"r":' .. result .. ',"h":[' .. table.concat(past, ',') .. ']}'
  if recorded_bytes + #one > RECORD_BYTES then tell_recorded() end
  recorded[#recorded + 1] = one
  recorded_bytes = recorded_bytes + #one
end

local function tell()
  for from = 1, #happened, 100 do tell_events(from, math.min(from + 99, #happened)) end
  happened = {}
  tell_recorded()
end

-- Whether this may be the sorted set of a queue. Plain arq queues may have any name that is not another key's.
local function is_queue(name)
  if type(name) ~= 'string' or #name == 0 or #name > ID_BYTES or not is_text(name) then return false end
  return not is_kept(name) and string.sub(name, -#HEALTH_CHECK) ~= HEALTH_CHECK
end

-- Whether jobs may be there, or be put there. What is of another type under a key of our form is set aside; under any
-- other it is somebody else's, and is never touched.
local holding = {}

local function may_hold_jobs(queue)
  if holding[queue] == nil then
    local kind = is_queue(queue) and (is_arqs(queue) and 'zset' or redis.call('TYPE', queue).ok)
    holding[queue] = kind == 'zset' or kind == 'none'
  end
  return holding[queue]
end

-- Where a job of this queue is kept: in the default one, where the key holds something else by now.
local function place_of(queue)
  return may_hold_jobs(queue) and queue or QUEUE
end

-- The sorted set of a queue's normal level, from that of any level.
local function base_of(queue)
  local base, level = string.match(queue, '^(.*)!(%a+)$')
  if level == 'high' or level == 'low' then return base end
  return queue
end

-- Push one token for an idle worker of the queue, which blocks on the list (BLPOP), and one for those that serve more
-- queues than they can wait for. One is enough, since whoever takes it claims all it can and leaves another when more is
-- due; and a list that nobody reads holds no more than one.
local function wake(queue)
  local list = WAKE .. base_of(queue)
  if own('LLEN', list) == 0 then redis.call('RPUSH', list, '1') end
  if own('LLEN', WAKE_ANY) == 0 then redis.call('RPUSH', WAKE_ANY, '1') end
end

-- Send a message to one worker; what it does not read within a minute expires.
local function tell_worker(worker, message)
  own('RPUSH', CONTROL .. worker, message)
  redis.call('LTRIM', CONTROL .. worker, -MESSAGES_KEPT, -1)
  redis.call('PEXPIRE', CONTROL .. worker, 60000)
end

-- Signal the holder of a lease to stop its job: this run of it, and no later one.
local function tell_holder(holder, id)
  local worker, claim = string.match(holder, '^' .. TOKEN .. '([^:]*):(%d+)$')
  if worker then tell_worker(worker, 'stop ' .. claim .. ' ' .. id) end
end

-- Keep the record of a try that did not end its job, among the newest ones.
local function remember_try(id, record)
  own('RPUSH', HISTORY .. id, record)
  redis.call('LTRIM', HISTORY .. id, -TRIES_KEPT, -1)
end

-- The record of a job between its first claim and its end: its state, who runs it (worker:claim) or the token that was
-- settled last, the start of its last try, and how many leases were lost in a row.
local function read_run(id)
  local state, who, started, lost = string.match(text(RUN .. id) or '', '^(%a+) (%S+) (%d+) (%d+)$')
  if not state or #who > 2 * ID_BYTES or #started > 15 or #lost > 6 then return nil, nil, nil, 0 end
  return state, who, started, tonumber(lost)
end

local function run_record(state, who, started, lost)
  return state .. ' ' .. who .. ' ' .. started .. ' ' .. whole(lost)
end

local function tries_of(id)
  return math.floor(bounded(text(TRIES .. id), 0, MOST_TRIES, 0))
end

-- End a job: its result stays, for `life` ms or persistently (-1), and with it its earlier tries. With a life of 0 its id
-- is free at once; a trace (JSON without arguments and result) says for a minute how it ended. `sweep` must follow.
local ended, ended_in = {}, {}

local function close(id, queue, state, result, life, try, trace)
  record(id, result, try)
  if life == 0 then
    if trace then redis.call('SET', TRACE .. id, trace, 'PX', TOMBSTONE_MS) end
    redis.call('DEL', RESULT .. id, HISTORY .. id)
  elseif life < 0 then
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

-- A durable job's end outlives its result, for the database that keeps it on record under its request id.
local function remember_end(id, request_id)
  redis.call('SET', ENDED .. id, request_id, 'PX', ENDED_KEPT_MS)
end

-- Remove what is left of the jobs that were closed.
local function sweep()
  call_with(ended, 5, 'DEL')
  local aborting, suspecting = redis.call('EXISTS', ABORT) == 1, redis.call('EXISTS', SUSPECTED) == 1
  for queue, ids in pairs(ended_in) do
    call_with(ids, 1, 'ZREM', place_of(queue))
    if aborting then call_with(ids, 1, 'ZREM', ABORT) end
    if suspecting then
      call_with(ids, 1, 'HDEL', SUSPECTED)
      call_with(ids, 1, 'ZREM', SUSPECTS_IN .. queue)
    end
  end
  ended, ended_in = {}, {}
end

-- A payload or result as a table; false where it is not JSON of that shape. What was asked of the call is in `o`, which
-- is always a table then.
local function decoded(json)
  local readable, record = pcall(cjson.decode, json)
  if not readable or type(record) ~= 'table' then return false end
  if type(record.o) ~= 'table' then record.o = {} end
  return record
end

-- Whether a payload or result under an id that only our own code makes (it holds a '~') was written by somebody else:
-- ours have a request id.
local function is_foreign(id, json)
  if not string.find(id, MARK, 1, true) then return false end
  local record = decoded(json)
  return not (record and type(record.n) == 'string')
end

-- The sorted set that holds a waiting job. A plain client does not write it into the payload; there are few queues.
local function find_queue(id, record)
  local queue = record and record.o.z
  if is_queue(queue) and is_arqs(queue) then return queue end
  if is_queue(queue) and type(redis.pcall('ZSCORE', queue, id)) == 'string' then return queue end
  for _, known in ipairs(own('SMEMBERS', QUEUES)) do
    if type(redis.pcall('ZSCORE', known, id)) == 'string' then return known end
  end
  return QUEUE
end

-- Requeue a job that has a payload but no place, neither in its queue nor under a lease, as after a partial restore or an
-- eviction. True where that was so.
local function mend_place(id, record, now)
  local queue = record and record.o.z
  if not is_queue(queue) or not may_hold_jobs(queue) then return false end
  if not is_arqs(queue) and own('SISMEMBER', QUEUES, queue) == 0 then return false end
  if redis.call('EXISTS', LEASE .. id) == 1 or own('ZSCORE', queue, id) then return false end
  redis.call('ZADD', queue, whole(now), id)
  wake(queue)
  return true
end

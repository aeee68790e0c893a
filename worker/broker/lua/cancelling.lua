-- Put behind workflow.lua in the scripts that cancel. `sweep` and `put_all` must follow.

-- End a waiting job as cancelled. The payload's text is kept and closed with the result's keys: decoding and encoding
-- it again would change it (empty lists become objects, large integers lose digits). Its "t", which comes first, is
-- replaced.
local function cancel_waiting(id, queue, payload, record, now, life)
  local tries = tonumber(text(TRIES .. id) or 0) or 0
  local kept = string.gsub(string.gsub(payload, '^%s*{%s*"t"%s*:%s*%w+%s*,', '{', 1), '%s*}%s*$', '')
  local failure = '{"type":"CancelledError","message":"cancelled before it started","traceback":null}'
  local result = kept .. ',"t":' .. whole(tries) .. ',"s":false,"st":0,"ft":' .. whole(now) .. ',"r":' .. failure
    .. ',"state":"cancelled","id":' .. cjson.encode(id) .. ',"q":' .. cjson.encode(queue) .. '}'
  close(id, queue, 'cancelled', result, life, 0)
  event('cancelled', id, queue, '', tries)
  if type(record.o) == 'table' and record.o.wf then
    sweep()
    node_ended(record.o.wf, record.o.nd, 'cancelled', failure, now)
  end
end

-- Cancel a job: at once where it waits; where it runs, tell its worker. The entry in arq's abort set outlives the
-- worker that was told: whoever claims the job next ends it.
local function cancel_job(id, now, life)
  if redis.call('EXISTS', RESULT .. id) == 1 then return 'ended' end
  local payload = text(JOB .. id)
  if not payload then return 'unknown' end
  local holder = text(LEASE .. id)
  local readable, record = pcall(cjson.decode, payload)
  readable = readable and type(record) == 'table' and record.f ~= nil
  if readable and not holder then
    cancel_waiting(id, find_queue(id, record), payload, record, now, life)
    return 'cancelled'
  end
  redis.call('ZADD', ABORT, whole(now), id)
  local worker = holder and string.match(holder, '^' .. TOKEN .. '([^:]*)')
  if worker then
    redis.call('RPUSH', CONTROL .. worker, 'abort ' .. id)
    redis.call('PEXPIRE', CONTROL .. worker, 60000)
  end
  return 'cancelling'
end

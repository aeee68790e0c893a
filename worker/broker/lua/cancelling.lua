-- Included after workflow.lua in the scripts that cancel. `sweep` and `put_all` must follow.

-- End a waiting job as cancelled. The payload's text is kept and completed with the result's keys: decoding and encoding
-- it again would change it (cjson makes objects of empty lists, and doubles of large integers). Its "t", which comes
-- first, is replaced.
local function cancel_waiting(id, queue, payload, record, now, life)
  local tries = tries_of(id)
  local kept = string.gsub(string.gsub(payload, '^%s*{%s*"t"%s*:%s*%w+%s*,', '{', 1), '%s*}%s*$', '')
  local failure = '{"type":"CancelledError","message":"cancelled before it started","traceback":null}'
  local result = kept .. ',"t":' .. whole(tries) .. ',"s":false,"st":0,"ft":' .. whole(now) .. ',"r":' .. failure
    .. ',"state":"cancelled","id":' .. cjson.encode(id) .. ',"q":' .. cjson.encode(queue) .. '}'
  close(id, queue, 'cancelled', result, life, 0)
  if record.o.db == true and type(record.n) == 'string' then remember_end(id, record.n) end
  event('cancelled', printable(id), printable(queue), '', tries)
  if type(record.o.wf) == 'string' and record.o.nd then
    sweep()
    if not pcall(node_ended, record.o.wf, record.o.nd, 'cancelled', failure, now) then
      event('workflow_damaged', record.o.wf, '', '', 0)
    end
  end
end

-- Cancel a job: at once where it waits; where it runs, its worker is signalled. The entry in arq's abort set outlives
-- the worker that was signalled: whoever claims the job next ends it.
local function cancel_job(id, now, life)
  if redis.call('EXISTS', RESULT .. id) == 1 then return 'ended' end
  local payload = text(JOB .. id)
  if not payload then return text(TRACE .. id) and 'ended' or 'unknown' end
  local holder = text(LEASE .. id)
  local record = decoded(payload)
  if record and record.f ~= nil and not holder then
    cancel_waiting(id, find_queue(id, record), payload, record, now, life)
    return 'cancelled'
  end
  own('ZADD', ABORT, whole(now), id)
  if holder then tell_holder(holder, id) end
  return 'cancelling'
end

-- Cancel a job: at once where it waits; where it runs, tell its worker.
-- ARGV  1 id, 2 result life in ms for a waiting job (-1 for ever)
-- returns  'cancelled', 'cancelling' (it runs), 'ended' (there is a result), or 'unknown'
-- Run twice it returns 'ended' the second time, or 'cancelling' again.
-- The entry in arq's abort set outlives the worker that was told: whoever claims the job next ends it.
local now, id, life = now_ms(), ARGV[1], tonumber(ARGV[2])
if redis.call('EXISTS', RESULT .. id) == 1 then return 'ended' end
local payload = text(JOB .. id)
if not payload then return 'unknown' end
local holder = text(LEASE .. id)
local readable, record = pcall(cjson.decode, payload)
readable = readable and type(record) == 'table' and record.f ~= nil
if holder or not readable then
  redis.call('ZADD', ABORT, whole(now), id)
  local worker = holder and string.match(holder, '^' .. TOKEN .. '([^:]*)')
  if worker then
    redis.call('RPUSH', CONTROL .. worker, 'abort ' .. id)
    redis.call('PEXPIRE', CONTROL .. worker, 60000)
  end
  return 'cancelling'
end
local queue = find_queue(id, record)
local tries = tonumber(text(TRIES .. id) or 0) or 0
-- The payload's text is kept and closed with the result's keys: decoding and encoding it again would change it
-- (empty lists become objects, large integers lose digits). Its "t", which comes first, is replaced.
local kept = string.gsub(string.gsub(payload, '^%s*{%s*"t"%s*:%s*%w+%s*,', '{', 1), '%s*}%s*$', '')
local result = kept .. ',"t":' .. whole(tries) .. ',"s":false,"st":0,"ft":' .. whole(now)
  .. ',"r":{"type":"CancelledError","message":"cancelled before it started","traceback":null}'
  .. ',"state":"cancelled","id":' .. cjson.encode(id) .. ',"q":' .. cjson.encode(queue) .. '}'
close(id, queue, 'cancelled', result, life, 0)
sweep()
event('cancelled', id, queue, '', tries)
tell()
return 'cancelled'

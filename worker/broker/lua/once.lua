-- Record that a step of a job was done, so that no other try or job does it again.
-- ARGV  1 key of the step, 2 id of the job, 3 its lease's token, 4 action, 5 the step's value as JSON, 6 ms to keep
--       'begin': may the step run?   'done': it ran, keep its value   'undone': it failed, others may run it
-- returns  {'done', value}, {'yours', ''}, {'held', ''} by a try whose lease lives, or {'lost', ''} when the caller's
--          lease is gone
-- Run twice by one try, 'begin' says 'yours' twice, 'done' says 'done' twice, 'undone' changes nothing more.
local name, id, token, action = ONCE .. ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local known = own('HMGET', name, 'value', 'job', 'token')
if known[1] then return {'done', known[1]} end
if text(LEASE .. id) ~= token then return {'lost', ''} end
local held = known[3] and text(LEASE .. known[2]) == known[3]
if held and not (known[2] == id and known[3] == token) then return {'held', ''} end
if action == 'begin' then
  redis.call('HSET', name, 'job', id, 'token', token)
  redis.call('PEXPIRE', name, ARGV[6])
  return {'yours', ''}
elseif action == 'done' then
  redis.call('HSET', name, 'job', id, 'value', ARGV[5])
  redis.call('HDEL', name, 'token')
  redis.call('PEXPIRE', name, ARGV[6])
  return {'done', ARGV[5]}
end
redis.call('DEL', name)
return {'yours', ''}

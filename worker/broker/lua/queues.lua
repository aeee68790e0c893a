-- Read the lengths of all queues.
-- returns  per sorted set: its key, 1 if the queue is paused, how many are due, how many are over a limit, how many there
--          are, milliseconds that the oldest one has been due
local now, found = now_ms(), {}
for _, queue in ipairs(redis.call('SMEMBERS', QUEUES)) do
  local first = redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)
  found[#found + 1] = {
    queue,
    redis.call('SISMEMBER', PAUSED, base_of(queue)),
    redis.call('ZCOUNT', queue, '-inf', now),
    redis.call('ZCOUNT', queue, PARKED_SCORE, '+inf'),
    redis.call('ZCARD', queue),
    first[2] and math.max(0, now - tonumber(first[2])) or 0,
  }
end
return found

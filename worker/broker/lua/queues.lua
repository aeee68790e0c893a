-- Read the lengths of all queues.
-- returns  per sorted set: its key, 1 if the queue is paused, how many are due, how many are over a limit, how many there
--          are, milliseconds that the oldest one has been due
local now, found = now_ms(), {}
for _, queue in ipairs(own('SMEMBERS', QUEUES)) do
  local first = is_queue(queue) and redis.pcall('ZRANGEBYSCORE', queue, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)
  if first and not first.err then
    found[#found + 1] = {
      queue,
      own('SISMEMBER', PAUSED, base_of(queue)),
      redis.call('ZCOUNT', queue, '-inf', now),
      redis.call('ZCOUNT', queue, PARKED_SCORE, '+inf'),
      redis.call('ZCARD', queue),
      first[2] and math.floor(now - bounded(first[2], 0, now, now)) or 0,
    }
  end
end
return found

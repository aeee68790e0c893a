-- Say that a worker lives, and forget those that fell silent.
-- ARGV  1 worker id, 2 its record as JSON, 3 milliseconds it is believed (0: it says goodbye), then its queues
-- returns  the queues that are known, as sorted sets
local now, worker, ttl = now_ms(), ARGV[1], tonumber(ARGV[3])
if ttl == 0 then
  redis.call('DEL', WORKER .. worker, CONTROL .. worker)
  redis.call('ZREM', WORKERS, worker)
else
  redis.call('SET', WORKER .. worker, ARGV[2], 'PX', ttl)
  redis.call('ZADD', WORKERS, whole(now + ttl), worker)
  for i = 4, #ARGV do redis.call('SADD', QUEUES, ARGV[i]) end
end
redis.call('ZREMRANGEBYSCORE', WORKERS, '-inf', now)
return redis.call('SMEMBERS', QUEUES)

-- Put between the prelude and the scripts that count limits. A limit's key says all of it: kind ('r' rate, 'c'
-- concurrency), most, period in ms, and what is counted.
--   RATE .. key     list of the starts in the last period, oldest first
--   HOLDERS .. key  sorted set of the ids that run, by the end of their leases: a dead worker's slot comes back
--   PARKED .. key   sorted set of 'id<tab>queue' that wait for the limit, by the time they were due
--   LIMITS          sorted set of the limits that somebody waits for, by the time at which there is room again

local function limit_of(key)
  local kind, most, period = string.match(key, '^(%a):(%d+):(%d+):')
  return kind, tonumber(most), tonumber(period)
end

-- How many more may start now, and if none, when one may.
local function room_of(key, now)
  local kind, most, period = limit_of(key)
  if kind == 'r' then
    local starts = redis.call('LRANGE', RATE .. key, 0, 0)
    while starts[1] and tonumber(starts[1]) + period <= now do
      redis.call('LPOP', RATE .. key)
      starts = redis.call('LRANGE', RATE .. key, 0, 0)
    end
    return most - redis.call('LLEN', RATE .. key), starts[1] and tonumber(starts[1]) + period or now + period
  end
  redis.call('ZREMRANGEBYSCORE', HOLDERS .. key, '-inf', now)
  local first = redis.call('ZRANGE', HOLDERS .. key, 0, 0, 'WITHSCORES')
  return most - redis.call('ZCARD', HOLDERS .. key), tonumber(first[2] or now + 1000)
end

-- Let go of what a try held, so that those who wait for it are looked at.
local function let_go(id, queue, held, now)
  for _, key in ipairs(held) do
    redis.call('ZREM', HOLDERS .. key, id)
    if redis.call('EXISTS', PARKED .. key) == 1 then
      redis.call('ZADD', LIMITS, whole(now), key)
      wake(queue)
    end
  end
end

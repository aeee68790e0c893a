-- Included before the scripts that count limits. A limit's key says all of it: kind ('r' rate, 'c' concurrency), most,
-- period in ms, and what is counted. A rate is a sliding-window log: the exact times of the starts in the last period,
-- so that no period anywhere has more than it allows, as a fixed window does at its edges; it costs memory for each start.
-- Concurrency is a set of holders with a lease each, a semaphore that survives the death of who holds it.
--   RATE .. key     list of the starts in the last period, oldest first
--   HOLDERS .. key  sorted set of the ids that run, by the end of their leases: a dead worker's slot comes back
--   PARKED .. key   sorted set of 'id<tab>queue' that wait for the limit, by the time they were due
--   LIMITS          sorted set of the limits that somebody waits for, by the time at which there is room again

-- Nil for what is not a limit.
local function limit_of(key)
  if type(key) ~= 'string' or #key > LIMIT_BYTES then return nil end
  local kind, most, period = string.match(key, '^([rc]):(%d+):(%d+):')
  if not kind or #most > 7 or #period > 12 or (kind == 'r' and tonumber(period) == 0) then return nil end
  return kind, tonumber(most), tonumber(period)
end

-- The limits among a payload's options; nil where it names none, or something that is not a limit: its worker refuses
-- the job then.
local function limits_in(options)
  if type(options.lm) ~= 'table' or #options.lm == 0 or #options.lm > LIMITS_A_JOB then return nil end
  for _, key in ipairs(options.lm) do
    if not limit_of(key) then return nil end
  end
  return options.lm
end

-- How many more may start now, and if none, when one may.
local function room_of(key, now)
  local kind, most, period = limit_of(key)
  local free_at = now + 1000
  if kind == 'r' then
    local starts = own('LRANGE', RATE .. key, 0, 0)
    while starts[1] and bounded(starts[1], 0, now, 0) + period <= now do
      redis.call('LPOP', RATE .. key)
      starts = redis.call('LRANGE', RATE .. key, 0, 0)
    end
    free_at = starts[1] and bounded(starts[1], 0, now, 0) + period or now + period
    return most - redis.call('LLEN', RATE .. key), free_at
  end
  own('ZREMRANGEBYSCORE', HOLDERS .. key, '-inf', now)
  local first = redis.call('ZRANGE', HOLDERS .. key, 0, 0, 'WITHSCORES')
  return most - redis.call('ZCARD', HOLDERS .. key), bounded(first[2], now, now + LONGEST_LEASE_MS, free_at)
end

-- Release what a try held, and have those who wait for it considered.
local function let_go(id, queue, held, now)
  for _, key in ipairs(held) do
    own('ZREM', HOLDERS .. key, id)
    if redis.call('EXISTS', PARKED .. key) == 1 then
      own('ZADD', LIMITS, whole(now), key)
      wake(queue)
    end
  end
end

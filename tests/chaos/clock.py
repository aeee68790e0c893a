"""The clock of Redis steps: everything that it timed is due, or over, so much earlier."""

from redis.asyncio import Redis

# Times of now, in ms, are between these; other scores are places or marks.
STEP = """
local step, low, high, ended = tonumber(ARGV[1]), 1e12, 8e12, 0
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left > 0 and left <= step then
    redis.call('DEL', key)
    ended = ended + 1
  else
    if left > 0 then redis.call('PEXPIRE', key, left - step) end
    if redis.call('TYPE', key).ok == 'zset' then
      for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, low, high)) do
        redis.call('ZINCRBY', key, -step, member)
      end
    end
  end
end
return ended
"""


async def step_clock(redis: Redis, seconds: float) -> int:
    """What a step of the clock of Redis by so many seconds forward does: times to live and scores of queues, limits and
    schedules are over so much earlier, all at once. How many keys ended by it."""
    ended: int = await redis.execute_command("EVAL", STEP, 0, int(seconds * 1000))
    return ended

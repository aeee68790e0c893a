-- Cancel a job: at once where it waits; where it runs, its worker is signalled.
-- ARGV  1 id, 2 result life in ms for a waiting job (-1: persistent)
-- returns  'cancelled', 'cancelling' (it runs), 'ended' (there is a result), or 'unknown'
-- Run twice it returns 'ended' the second time, or 'cancelling' again.
local answer = cancel_job(ARGV[1], now_ms(), tonumber(ARGV[2]))
sweep()
put_all()
tell()
return answer

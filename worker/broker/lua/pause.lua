-- Pause a queue, or resume it.
-- ARGV  1 queue (sorted set of its normal level), 2 'pause' or 'resume'
-- returns  1 if that changed something
-- Run twice it changes nothing more.
local change = own(ARGV[2] == 'pause' and 'SADD' or 'SREM', PAUSED, ARGV[1])
if ARGV[2] == 'resume' then wake(ARGV[1]) end
return change

-- Read the names of the jobs of a queue, a slice at a time.
-- ARGV  1 the queue (a sorted set), 2 where to continue, '0' at first
-- returns  where to continue, '0' at the end, then a name per job, '' where it cannot be read; a job may come twice
local BEGINNING = 1024 -- bytes of a payload, which may be large; the name is its second field, our own and arq's alike
if not may_hold_jobs(ARGV[1]) then return {'0'} end
local found = own('ZSCAN', ARGV[1], ARGV[2], 'COUNT', SLICE)

local function name_of(id)
  local payload = redis.pcall('GETRANGE', JOB .. id, 0, BEGINNING - 1)
  if type(payload) ~= 'string' then return '' end
  local name = string.match(payload, '^{%s*"t":%s*%w+,%s*"f":%s*"([^"\\]+)"')
  if name then return name end
  local record = #payload < BEGINNING and decoded(payload)
  return record and type(record.f) == 'string' and record.f or ''
end

local answer = {found[1]}
for i = 1, #found[2], 2 do answer[#answer + 1] = name_of(found[2][i]) end
return answer

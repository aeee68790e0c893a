-- Read the records of all live workers.
-- returns  a record as JSON per worker
local records = {}
for _, worker in ipairs(own('ZRANGEBYSCORE', WORKERS, now_ms(), '+inf')) do
  local record = text(WORKER .. worker)
  if record then records[#records + 1] = record end
end
return records

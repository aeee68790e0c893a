-- Give back the jobs of claims whose answers a worker never got, without having used a try.
-- ARGV  1 worker id, then numbers of such claims
-- returns  how many jobs were given back
-- Run twice it finds nothing more; a claim that Redis gets to only afterwards is found by a later call.
local now, worker, given = now_ms(), ARGV[1], 0

local function give_back(id, queue, token)
  if text(LEASE .. id) ~= token then return end
  queue = place_of(queue)
  local _, _, started, lost = read_run(id)
  redis.call('DEL', LEASE .. id)
  redis.call('SET', TRIES .. id, whole(math.max(0, tries_of(id) - 1)))
  redis.call('SET', RUN .. id, run_record('release', token, started or whole(now), lost))
  own('ZADD', queue, whole(now), id)
  wake(queue)
  event('release', id, queue, worker, 0)
  given = given + 1
end

for i = 2, #ARGV do
  local token, packed = TOKEN .. worker .. ':' .. ARGV[i], text(CLAIMED .. worker .. ':' .. ARGV[i])
  local readable, ids = pcall(cmsgpack.unpack, packed or '')
  if packed and readable and type(ids) == 'table' then
    for at = 1, #ids - 1, 2 do pcall(give_back, ids[at], ids[at + 1], token) end -- what fails starts when its lease ends
  end
end
tell()
return given

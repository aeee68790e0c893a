-- Give back the jobs of claims whose answers a worker never got, without having used a try.
-- ARGV  1 worker id, then numbers of such claims
-- returns  how many jobs were given back
-- Run twice it finds nothing more; a claim that Redis gets to only afterwards is found by a later call. What a claim
-- brought is forgotten once none of it is left. A job whose lease has ended unnoticed is: `claim` has yet to read there
-- that this try does not count.
local now, worker, given = now_ms(), ARGV[1], 0

-- Returns whether nothing of the claim is left in this job.
local function give_back(id, queue, claim)
  local state, who, started, lost = read_run(id)
  if text(LEASE .. id) ~= TOKEN .. claim then return state ~= 'running' or who ~= claim end
  queue = place_of(queue)
  redis.call('DEL', LEASE .. id)
  redis.call('SET', TRIES .. id, whole(math.max(0, tries_of(id) - 1)))
  redis.call('SET', RUN .. id, run_record('release', TOKEN .. claim, started or whole(now), lost))
  own('ZADD', queue, whole(now), id)
  wake(queue)
  event('release', id, queue, worker, 0)
  given = given + 1
  return true
end

for i = 2, #ARGV do
  local claim = worker .. ':' .. ARGV[i]
  local packed = text(CLAIMED .. claim)
  local readable, ids = pcall(cmsgpack.unpack, packed or '')
  if packed and readable and type(ids) == 'table' then
    local is_over = true
    for at = 1, #ids - 1, 2 do
      local done, is_gone = pcall(give_back, ids[at], ids[at + 1], claim) -- what fails starts when its lease ends
      is_over = is_over and done and is_gone
    end
    if is_over then redis.call('DEL', CLAIMED .. claim) end
  end
end
tell()
return given

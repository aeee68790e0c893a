-- Included between the limits and the claim. A job whose lease was lost twice in a row is a suspect: it may be what kills
-- its workers. It is parked (its score in its queue is PARKED_SCORE) until a worker that runs suspects only takes it.
-- Such a worker runs a group of them; when it dies, the group is halved, as in a binary search (group testing), until a
-- job dies alone: so one culprit among n is found in log2(n) deaths, and the innocent are not blamed.
--   SUSPECTS              set of the queues that hold some
--   SUSPECTS_IN .. queue  sorted set of the ids that wait, by how many of them may run together
--   SUSPECTED             hash by id, from its first parking until it is settled: how many may run together, 1 if it was alone
--                         when its lease was lost, and with how many it runs since its last start (0 before that)

local function suspicion_of(id)
  local size, alone, beside = string.match(own('HGET', SUSPECTED, id) or '', '^(%d+) ([01]) (%d+)$')
  if not size or #size > 6 or #beside > 6 then return SUSPECTS_TOGETHER, false, 0 end
  return tonumber(size), alone == '1', tonumber(beside)
end

local function suspect(id, size, alone, beside)
  own('HSET', SUSPECTED, id, whole(size) .. ' ' .. (alone and 1 or 0) .. ' ' .. whole(beside))
end

-- Set a suspect aside. `counted`: it had started when its lease was lost, so its next group has half the size.
local function park_suspect(id, queue, counted)
  local size, alone, beside = suspicion_of(id)
  if counted and beside > 0 then size, alone = math.max(1, math.floor(beside / 2)), beside == 1 end
  suspect(id, size, alone, 0)
  own('ZADD', SUSPECTS_IN .. queue, whole(size), id)
  own('SADD', SUSPECTS, queue)
  redis.call('ZADD', queue, PARKED_SCORE, id)
end

-- The queues with suspects among `served` (a set; nil for all) that are not paused, and how many wait there.
local function suspected_queues(served)
  local found, count = {}, 0
  for _, queue in ipairs(own('SMEMBERS', SUSPECTS)) do
    local waiting = own('ZCARD', SUSPECTS_IN .. queue)
    if waiting == 0 then
      redis.call('SREM', SUSPECTS, queue)
    elseif (not served or served[queue]) and own('SISMEMBER', PAUSED, base_of(queue)) == 0 then
      found[#found + 1] = queue
      count = count + waiting
    end
  end
  return found, count
end

-- The next suspects that may run together, at most `most`: a list of {queue, ids}. They are removed from the waiting
-- ones. Ids that an older release has cancelled meanwhile are forgotten.
local function next_suspects(queues, most)
  local size, groups = 0, {}
  for _, queue in ipairs(queues) do
    local top = redis.call('ZREVRANGE', SUSPECTS_IN .. queue, 0, 0, 'WITHSCORES')
    size = math.max(size, bounded(top[2], 1, SUSPECTS_TOGETHER, 1))
  end
  most = math.min(most, size)
  for _, queue in ipairs(queues) do
    local waiting, ids = SUSPECTS_IN .. queue, {}
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', waiting, size > 1 and size or '-inf', '+inf', 'LIMIT', 0, most)) do
      redis.call('ZREM', waiting, id)
      if bounded(redis.pcall('ZSCORE', queue, id), 0, PARKED_SCORE, 0) == PARKED_SCORE then
        ids[#ids + 1] = id
      else
        own('HDEL', SUSPECTED, id)
      end
    end
    if #ids > 0 then groups[#groups + 1] = {queue, ids} end
    most = most - #ids
    if most <= 0 then break end
  end
  return groups
end

-- place: the set that a single task is in: takes it out, or puts it into another one. Expects partition.

-- Takes a task out of its set. state is nil for a damaged record: what a bucket holds of it is dropped when it is due.
local function withdraw(state, due, id)
  if state == 'w' then
    redis.call('ZREM', prefix .. 'retries', id)
  elseif state == 'r' then
    redis.call('ZREM', prefix .. 'leases', id)
  elseif not state then
    redis.call('ZREM', prefix .. 'retries', id)
    redis.call('ZREM', prefix .. 'leases', id)
  else
    local bucket = bucket_of(tonumber(due))
    redis.call('ZREM', prefix .. 'bucket:' .. bucket, id)
    if redis.call('EXISTS', prefix .. 'bucket:' .. bucket) == 0 then
      redis.call('ZREM', prefix .. 'index', bucket)
    end
  end
end

-- Puts a waiting task (s or w) where it is found when it is due.
local function place(state, due, id)
  if state == 'w' then
    redis.call('ZADD', prefix .. 'retries', due, id)
  else
    local bucket = bucket_of(tonumber(due))
    redis.call('ZADD', prefix .. 'bucket:' .. bucket, due, id)
    redis.call('ZADD', prefix .. 'index', bucket, bucket)
  end
end

-- A waiting task becomes due at another time.
local function move(state, old, due, id)
  withdraw(state, old, id)
  place(state, due, id)
end

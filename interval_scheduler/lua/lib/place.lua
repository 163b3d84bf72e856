-- place: takes a task out of the set it is in, and puts a waiting one into another. Expects partition.
local function withdraw(state, due, id)
  if state == 'w' then
    redis.call('ZREM', prefix .. 'retries', id)
  elseif state == 'r' then
    redis.call('ZREM', prefix .. 'leases', id)
  else
    local bucket = bucket_of(tonumber(due))
    redis.call('ZREM', prefix .. 'bucket:' .. bucket, id)
    if redis.call('EXISTS', prefix .. 'bucket:' .. bucket) == 0 then
      redis.call('ZREM', prefix .. 'index', bucket)
    end
  end
end

local function put_in_bucket(due, id)
  local bucket = bucket_of(tonumber(due))
  redis.call('ZADD', prefix .. 'bucket:' .. bucket, due, id)
  redis.call('ZADD', prefix .. 'index', bucket, bucket)
end

-- A waiting task (s or w) becomes due at another time.
local function move(state, old, due, id)
  withdraw(state, old, id)
  if state == 's' then
    put_in_bucket(due, id)
  else
    redis.call('ZADD', prefix .. 'retries', due, id)
  end
end

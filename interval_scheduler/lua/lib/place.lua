-- place: takes a waiting or running task out of the set it is in. Expects partition and record.
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

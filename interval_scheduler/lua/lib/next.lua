-- next: the earliest time at which anything in the partition can be claimed; drops buckets that became empty.

-- due of the earliest waiting task, deadline of the earliest lease ('' where there is none)
local function next_times(prefix)
  local due = ''
  for _ = 1, 16 do
    local bucket, start = unpack(redis.call('ZRANGE', prefix .. 'index', 0, 0, 'WITHSCORES'))
    if not bucket then
      due = ''
      break
    end
    -- If only empty buckets are found, the next call goes on with the following ones.
    due = start
    local head = redis.call('ZRANGE', prefix .. 'bucket:' .. bucket, 0, 0, 'WITHSCORES')
    if head[2] then
      due = head[2]
      break
    end
    redis.call('ZREM', prefix .. 'index', bucket)
  end
  local retry = redis.call('ZRANGE', prefix .. 'retries', 0, 0, 'WITHSCORES')[2]
  if retry and (due == '' or tonumber(retry) < tonumber(due)) then due = retry end
  return due, redis.call('ZRANGE', prefix .. 'leases', 0, 0, 'WITHSCORES')[2] or ''
end

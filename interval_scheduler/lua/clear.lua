-- clear: deletes a bounded number of tasks and dead letters.
--
-- KEYS[1] meta  HASH  partition; its other keys share the prefix
-- ARGV[1] epoch  integer  epoch of the partition known to the caller
-- ARGV[2] now  ms  test clock, or '' for the server's time
-- ARGV[3] limit  entries  most to delete in this step
-- Returns: 'ok', or the number of writes so far if it wrote, server time in us, tasks deleted, 1 where there may be more or 0
-- Keeps: of a cleared partition only meta and the token sequence remain; what a live run reports is refused.
--! include partition
local limit, deleted, tasks = tonumber(ARGV[3]), 0, 0

-- Empties the head of a sorted set whose members are fields of a hash; says how many there were.
local function drain(key, hash)
  local ids = redis.call('ZRANGE', key, 0, limit - deleted - 1)
  if #ids == 0 then return 0 end
  redis.call('ZREMRANGEBYRANK', key, 0, #ids - 1)
  deleted = deleted + #ids
  return redis.call('HDEL', hash, unpack(ids))
end

while deleted < limit do
  local bucket = redis.call('ZRANGE', prefix .. 'index', 0, 0)[1]
  if not bucket then break end
  tasks = tasks + drain(prefix .. 'bucket:' .. bucket, prefix .. 'tasks')
  if redis.call('EXISTS', prefix .. 'bucket:' .. bucket) == 0 then
    redis.call('ZREM', prefix .. 'index', bucket)
    deleted = deleted + 1
  end
end
if deleted < limit then tasks = tasks + drain(prefix .. 'retries', prefix .. 'tasks') end
if deleted < limit then tasks = tasks + drain(prefix .. 'leases', prefix .. 'tasks') end
if deleted < limit then drain(prefix .. 'dead', prefix .. 'dead-records') end
if deleted < limit and redis.call('HDEL', KEYS[1], 'alarm') == 1 then deleted = deleted + 1 end
local reply = {'ok', now_us, tasks, deleted < limit and 0 or 1}
return deleted > 0 and written(reply) or reply

-- purge: deletes dead letters, oldest first.
--
-- KEYS[1] meta  HASH  partition; its other keys share the prefix
-- ARGV[1] epoch  integer  epoch of the partition known to the caller
-- ARGV[2] now  ms  test clock, or '' for the server's time
-- ARGV[3] limit  dead letters  most to delete in this step
-- ARGV[4] until  ms  '+inf', or '(' and a time: dead letters whose last failure was then or later stay
-- Returns: 'ok', or the number of writes so far if it wrote, server time in us, how many were deleted
-- Keeps: no live task is touched.
--! include partition
local ids = redis.call('ZRANGEBYSCORE', prefix .. 'dead', '-inf', ARGV[4], 'LIMIT', 0, ARGV[3])
if #ids > 0 then
  redis.call('ZREMRANGEBYRANK', prefix .. 'dead', 0, #ids - 1)
  redis.call('HDEL', prefix .. 'dead-records', unpack(ids))
end
local reply = {'ok', now_us, #ids}
return #ids > 0 and written(reply) or reply

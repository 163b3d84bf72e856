-- dead: one page of the dead letters of a partition, oldest first.
--
-- KEYS[1] meta  HASH  partition; its other keys share the prefix
-- ARGV[1] epoch  integer  epoch of the partition known to the caller
-- ARGV[2] now  ms  test clock, or '' for the server's time
-- ARGV[3] start  rank  of the first to return
-- ARGV[4] limit  dead letters  most to return
-- Returns: 'ok', server time in us, then id and dead letter of each
-- Keeps: reads only.
--! include partition
local reply = {'ok', now_us}
for _, id in ipairs(redis.call('ZRANGE', prefix .. 'dead', ARGV[3], ARGV[3] + ARGV[4] - 1)) do
  local record = redis.call('HGET', prefix .. 'dead-records', id)
  if record then
    reply[#reply + 1] = id
    reply[#reply + 1] = record
  end
end
return reply

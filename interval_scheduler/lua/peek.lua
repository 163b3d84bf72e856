-- peek: reads one task.
--
-- KEYS[1] meta  HASH  partition; its other keys share the prefix
-- ARGV[1] epoch  integer  epoch of the partition known to the caller
-- ARGV[2] now  ms  test clock, or '' for the server's time
-- ARGV[3] id  text
-- Returns: 'ok', server time in us, record or '', dead letter or '' (which is only looked for where there is no record)
-- Keeps: reads only.
--! include partition
local record = redis.call('HGET', prefix .. 'tasks', ARGV[3])
local dead = not record and redis.call('HGET', prefix .. 'dead-records', ARGV[3])
return {'ok', now_us, record or '', dead or ''}

-- workers: reports a worker alive or gone, tells the others of changes, and reads who else is alive.
--
-- KEYS[1] workers  ZSET  worker id to expiry in ms
-- ARGV[1] now  ms  test clock, or '' for the server's time
-- ARGV[2] worker  text
-- ARGV[3] ttl  ms  0 says goodbye
-- Returns: 'ok', then the ids of the live workers
-- Keeps: the list only decides who wakes first: no promise depends on it.
local time = redis.call('TIME')
local now = ARGV[1] == '' and time[1] * 1000 + math.floor(time[2] / 1000) or tonumber(ARGV[1])
local changes = redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
if ARGV[3] == '0' then
  changes = changes + redis.call('ZREM', KEYS[1], ARGV[2])
else
  changes = changes + redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[3]), ARGV[2])
end
-- By pcall: a missing right to the channel must not make this fail.
if changes > 0 then redis.pcall('PUBLISH', KEYS[1], ARGV[2]) end
local reply = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '+inf', 'LIMIT', 0, 5000)
table.insert(reply, 1, 'ok')
return reply

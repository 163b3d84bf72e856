-- remove: deletes tasks wherever they are, and their dead letters.
--
-- KEYS[1] meta  HASH  partition; its other keys share the prefix
-- ARGV[1] epoch  integer  epoch of the partition known to the caller
-- ARGV[2] now  ms  test clock, or '' for the server's time
-- ARGV[3...] ids  text
-- Returns: 'ok', or the number of writes so far if it wrote, server time in us, one digit per id: 1 removed, 0 there was nothing
-- Keeps: nothing of a removed task remains; what a live run of it reports is refused, because its record is gone.
--        Begins with a removal, which a server allows whose memory is full: so it drains.
--! include partition
--! include record
--! include place
local answers, wrote = {}, false
for i = 3, #ARGV do
  local id = ARGV[i]
  local record = redis.call('HGET', prefix .. 'tasks', id)
  local removed = 0
  if record then
    local state, due = parse(record)
    redis.call('HDEL', prefix .. 'tasks', id)
    withdraw(state, due, id)
    removed = 1
  end
  if redis.call('HDEL', prefix .. 'dead-records', id) == 1 then
    redis.call('ZREM', prefix .. 'dead', id)
    removed = 1
  end
  wrote = wrote or removed == 1
  answers[#answers + 1] = removed
end
local reply = {'ok', now_us, table.concat(answers)}
return wrote and written(reply) or reply

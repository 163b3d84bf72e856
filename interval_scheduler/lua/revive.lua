-- revive: gives dead tasks another chance, now.
--
-- KEYS[1] meta  HASH  partition; its other keys share the prefix
-- ARGV[1] epoch  integer  epoch of the partition known to the caller
-- ARGV[2] now  ms  test clock, or '' for the server's time
-- ARGV[3] call_id  text  id of this call, which becomes the revision
-- ARGV[4...] dead_letters  id, dead letter as it was read, body of the task
-- Returns: 'ok', or the number of writes so far if it wrote, server time in us, one digit per dead letter: 1 revived, 0 it changed or is gone
-- Keeps: a dead letter becomes a due task again in one step. A live task of that id (the next occurrence of a
--        recurring task, or a new assignment) stays, and an extra run of it that is due now makes up for what failed.
--! include partition
--! include record
--! include place
--! include hint
local answers, revived = {}, false
for i = 4, #ARGV, 3 do
  local id, time = ARGV[i], text(now)
  local record = redis.call('HGET', prefix .. 'tasks', id)
  if redis.call('HGET', prefix .. 'dead-records', id) ~= ARGV[i + 1] or (record and not parse(record)) then
    answers[#answers + 1] = 0 -- where the live record is damaged, the dead letter stays
  else
    answers[#answers + 1] = 1
    if not record then
      redis.call('HSET', prefix .. 'tasks', id, compose('s', time, ARGV[3], '', '', '', '', '', '') .. ARGV[i + 2])
      place('s', time, id)
      revived = true
    else
      local state, due, _, token, slot, attempt, strikes, flags, follow, body, rest = parse(record)
      if state == 'r' then
        if not string.find(flags, 'n', 1, true) then flags = flags .. 'n' end
        redis.call('HSET', prefix .. 'tasks', id, compose(state, due, ARGV[3], token, slot, attempt, strikes, flags, follow, rest) .. string.sub(record, body))
      elseif state == 's' and tonumber(due) > now then
        if slot == '' then slot = due end
        redis.call('HSET', prefix .. 'tasks', id, compose(state, time, ARGV[3], token, slot, attempt, strikes, flags .. 'x', due, rest) .. string.sub(record, body))
        move(state, due, time, id)
        revived = true
      end
    end
    redis.call('HDEL', prefix .. 'dead-records', id)
    redis.call('ZREM', prefix .. 'dead', id)
  end
end
if revived then announce(now) end
return written({'ok', now_us, table.concat(answers)})

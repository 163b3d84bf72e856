-- reschedule: moves the pending occurrence of a task, not its grid.
--
-- KEYS[1] meta  HASH  partition; its other keys share the prefix
-- ARGV[1] epoch  integer  epoch of the partition known to the caller
-- ARGV[2] now  ms  test clock, or '' for the server's time
-- ARGV[3] call_id  text  id of this call, which becomes the revision
-- ARGV[4] id  text
-- ARGV[5] when  '=ms' a time, or '+ms' that long after now
-- Returns: 'ok', or the number of writes so far if it wrote, server time in us, 1 moved or 0 unknown id
-- Keeps: an unknown id creates nothing; while the task runs, the move wins over the outcome of the run.
--! include partition
--! include record
--! include place
--! include hint
local id = ARGV[4]
local record = redis.call('HGET', prefix .. 'tasks', id)
if not record then return {'ok', now_us, 0} end
local state, due, revision, token, slot, attempt, strikes, flags, follow, body, rest = parse(record)
if not state then return {'ok', now_us, 0} end -- a damaged record stays as it is
if revision == ARGV[3] then return {'ok', now_us, 1} end
local moment = tonumber(string.sub(ARGV[5], 2))
if string.sub(ARGV[5], 1, 1) == '+' then moment = now + moment end
local time = text(moment)
local old = due
if string.find(flags, 'x', 1, true) then
  follow = time
elseif state == 'r' then
  follow = '>' .. time
else
  if slot == '' then slot = due end
  due = time
end
redis.call('HSET', prefix .. 'tasks', id, compose(state, due, ARGV[3], token, slot, attempt, strikes, flags, follow, rest) .. string.sub(record, body))
if due ~= old then
  move(state, old, due, id)
  announce(moment)
end
return written({'ok', now_us, 1})

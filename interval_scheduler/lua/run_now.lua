-- run_now: asks for an extra run of a task that leaves its pending occurrence and its grid alone.
--
-- KEYS[1] meta  HASH  partition; its other keys share the prefix
-- ARGV[1] epoch  integer  epoch of the partition known to the caller
-- ARGV[2] now  ms  test clock, or '' for the server's time
-- ARGV[3] call_id  text  id of this call, which becomes the revision
-- ARGV[4] id  text
-- Returns: 'ok', or the number of writes so far if it wrote, server time in us, 1 asked for or 0 unknown id
-- Keeps: a task that waits for a retry makes that retry now; one that is already due needs nothing; on a running task
--        the extra run follows the run.
--! include partition
--! include record
--! include place
--! include hint
local id = ARGV[4]
local record = redis.call('HGET', prefix .. 'tasks', id)
if not record then return {'ok', now_us, 0} end
local state, due, revision, token, slot, attempt, strikes, flags, follow, body, rest = parse(record)
if not state then return {'ok', now_us, 0} end -- a damaged record stays as it is
if revision == ARGV[3] or (state ~= 'r' and tonumber(due) <= now) then return {'ok', now_us, 1} end
local old = due
if state == 'r' then
  if not string.find(flags, 'n', 1, true) then flags = flags .. 'n' end
else
  if slot == '' then slot = due end
  if state == 's' then
    flags = flags .. 'x'
    follow = due
  end
  due = text(now)
end
redis.call('HSET', prefix .. 'tasks', id, compose(state, due, ARGV[3], token, slot, attempt, strikes, flags, follow, rest) .. string.sub(record, body))
if due ~= old then
  move(state, old, due, id)
  announce(now)
end
return written({'ok', now_us, 1})

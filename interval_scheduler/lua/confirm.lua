-- confirm: marks a live run as done, under confirm="manual".
--
-- KEYS[1] meta  HASH  partition; its other keys share the prefix
-- ARGV[1] epoch  integer  epoch of the partition known to the caller
-- ARGV[2] now  ms  test clock, or '' for the server's time
-- ARGV[3] id  text
-- ARGV[4] token  integer  fencing token of the run
-- Returns: 'ok', or the number of writes so far if it wrote, server time in us, 1 confirmed or 0 not this run's to confirm, and the record where its handler has returned
-- Keeps: a confirmed run is never repeated, even if its worker dies before it settles: whoever claims it next only settles it.
--! include partition
--! include record
local id = ARGV[3]
local record = redis.call('HGET', prefix .. 'tasks', id)
local state, due, revision, token, slot, attempt, strikes, flags, follow, body, rest = parse(record or '')
if state ~= 'r' or token ~= ARGV[4] then return {'ok', now_us, 0} end
local wrote = not string.find(flags, 'k', 1, true)
if wrote then
  flags = flags .. 'k'
  record = compose(state, due, revision, token, slot, attempt, strikes, flags, follow, rest) .. string.sub(record, body)
  redis.call('ZREM', prefix .. 'leases', '')
  redis.call('HSET', prefix .. 'tasks', id, record)
end
local reply = {'ok', now_us, 1, string.find(flags, 'c', 1, true) and record or nil}
return wrote and written(reply) or reply

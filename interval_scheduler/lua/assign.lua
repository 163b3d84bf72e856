-- assign: creates tasks, or updates the ones that exist.
--
-- KEYS[1] meta  HASH  partition; its other keys share the prefix
-- ARGV[1] epoch  integer  epoch of the partition known to the caller
-- ARGV[2] now  ms  test clock, or '' for the server's time
-- ARGV[3] call_id  text  id of this call, which becomes the revision of what it writes; after a space, the revision that the tasks must have, '' for tasks that must not exist
-- ARGV[4...] tasks  id, when, delay, body  when: '=ms' explicit slot, '~ms' or '~' (now) as soon as possible; delay: ms of jitter
-- Returns: 'ok', or the number of writes so far if it wrote, server time in us, one character per task: c created, u updated, x another revision
-- Keeps: an existing task keeps its pending time; a running one keeps running, and what is assigned follows the run;
--        a repeat of the same call is recognised by the revision and changes nothing. No id may come twice.
--! include partition
--! include hint
-- A call for one new task, as most are: it needs none of the tables that many tasks are gathered in.
if #ARGV == 7 and ARGV[6] == '' and string.byte(ARGV[5]) == 61 and not string.find(ARGV[3], ' ', 1, true) then -- '='
  local id, due = ARGV[4], string.sub(ARGV[5], 2)
  if not redis.call('HGET', prefix .. 'tasks', id) then
    redis.call('HSET', prefix .. 'tasks', id, 's' .. due .. ',' .. ARGV[3] .. '+\n' .. ARGV[7])
    local moment = tonumber(due)
    local bucket = bucket_of(moment)
    local key = prefix .. 'bucket:' .. bucket
    redis.call('ZADD', key, due, id)
    -- A bucket that was there before is in the index, whose memory need not be touched then.
    if redis.call('ZCARD', key) == 1 then redis.call('ZADD', prefix .. 'index', bucket, bucket) end
    announce(moment)
    return written({'ok', now_us, 'c'})
  end
end

--! include record
--! include buckets
local call_id, condition = ARGV[3], nil
local space = string.find(call_id, ' ', 1, true)
if space then call_id, condition = string.sub(call_id, 1, space - 1), string.sub(call_id, space + 1) end
local ids = {}
for i = 4, #ARGV, 4 do ids[#ids + 1] = ARGV[i] end
local found = redis.call('HMGET', prefix .. 'tasks', unpack(ids))

local answers, records = {}, {}
local created = ',' .. call_id .. '+\n'
local earliest
for i = 1, #ids do
  local at = 4 * i
  local id, form = ids[i], string.sub(ARGV[at + 1], 1, 1)
  local slot = string.sub(ARGV[at + 1], 2)
  if slot == '' then slot = text(now) end
  if not found[i] and condition and condition ~= '' then
    answers[i] = 'x'
  elseif not found[i] then
    answers[i] = 'c'
    local due, moment = slot, tonumber(slot)
    records[#records + 1] = id
    if ARGV[at + 2] == '' then
      records[#records + 1] = 's' .. due .. created .. ARGV[at + 3]
    else
      moment = moment + ARGV[at + 2]
      due = text(moment)
      records[#records + 1] = compose('s', due, call_id .. '+', '', slot, '', '', '', '') .. ARGV[at + 3]
    end
    gather(moment, due, id)
    if not earliest or moment < earliest then earliest = moment end
  else
    local state, due, revision, token, old_slot, attempt, strikes, flags, follow, _, rest = parse(found[i])
    if not state then
      -- A damaged record: it is due now with what is assigned, as a repair would have it.
      answers[i] = 'u'
      redis.call('ZREM', prefix .. 'retries', id)
      redis.call('ZREM', prefix .. 'leases', id)
      records[#records + 1] = id
      records[#records + 1] = compose('s', text(now), call_id, '', '', '', '', '', '') .. ARGV[at + 3]
      gather(now, text(now), id)
      earliest = now
    elseif revision == call_id .. '+' then
      answers[i] = 'c'
    elseif revision == call_id then
      answers[i] = 'u'
    elseif condition and condition ~= revision then
      answers[i] = 'x'
    else
      answers[i] = 'u'
      if state == 'r' and follow == '' and not string.find(flags, 'x', 1, true) then follow = form .. slot end
      records[#records + 1] = id
      records[#records + 1] = compose(state, due, call_id, token, old_slot, attempt, strikes, flags, follow, rest) .. ARGV[at + 3]
    end
  end
end

if #records > 0 then redis.call('HSET', prefix .. 'tasks', unpack(records)) end
write_buckets()
if earliest then announce(earliest) end
local reply = {'ok', now_us, table.concat(answers)}
return #records > 0 and written(reply) or reply

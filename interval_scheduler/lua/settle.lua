-- settle: reports the ends of runs: done, next occurrence, retry, dead letter, released, or awaiting confirmation.
--
-- KEYS[1] meta  HASH  partition; its other keys share the prefix
-- ARGV[1] epoch  integer  epoch of the partition known to the caller
-- ARGV[2] now  ms  test clock, or '' for the server's time
-- ARGV[3] lease  ms  how long a run that awaits confirmation stays claimed
-- ARGV[4...] runs  id, expected header, new header  new header '' deletes the task; with '+' in front, two more follow: new body or '', dead letter or ''
-- Returns: 'ok', or the number of writes so far if it wrote, server time in us, one character per run (o accepted, l lost, c changed), then the record of each changed run
-- Keeps: a run settles once, and only with its own token; where the record changed during the run nothing is written.
--        Begins with a removal, which a server allows whose memory is full: so it drains.
--! include partition
--! include record
--! include buckets
--! include hint
local ids, expected, fresh, bodies, dead = {}, {}, {}, {}, {}
local at = 4
while ARGV[at] do
  local n = #ids + 1
  ids[n], expected[n] = ARGV[at], ARGV[at + 1]
  if string.byte(ARGV[at + 2]) == 43 then -- '+'
    fresh[n], bodies[n], dead[n] = string.sub(ARGV[at + 2], 2), ARGV[at + 3], ARGV[at + 4]
    at = at + 5
  else
    fresh[n], bodies[n], dead[n] = ARGV[at + 2], '', ''
    at = at + 3
  end
end

local found = redis.call('HMGET', prefix .. 'tasks', unpack(ids))
local reply = {'ok', now_us, ''}
local answers, gone, records, done = {}, {}, {}, {}
local retries, leases, buried = {}, {}, {}
local earliest
for i = 1, #ids do
  local record, id = found[i], ids[i]
  if not record then
    answers[i] = 'l'
  elseif string.sub(record, 1, #expected[i] + 1) ~= expected[i] .. '\n' then
    local state, _, _, token = parse(record)
    local _, _, _, held = parse(expected[i] .. '\n')
    if state == 'r' and token == held then
      answers[i] = 'c'
      reply[#reply + 1] = record
    else
      answers[i] = 'l'
    end
  else
    answers[i] = 'o'
    gone[#gone + 1] = id
    if dead[i] ~= '' then buried[#buried + 1] = i end
    if fresh[i] == '' then
      done[#done + 1] = id
    else
      local body = bodies[i] ~= '' and bodies[i] or string.sub(record, #expected[i] + 2)
      records[#records + 1] = id
      records[#records + 1] = fresh[i] .. '\n' .. body
      local state, due = string.match(fresh[i], '^(%a)(%d+)')
      local moment = tonumber(due)
      if state == 's' then
        gather(moment, due, id)
      elseif state == 'w' then
        retries[#retries + 1] = due
        retries[#retries + 1] = id
      else
        moment = now + ARGV[3]
        leases[#leases + 1] = text(moment)
        leases[#leases + 1] = id
      end
      if not earliest or moment < earliest then earliest = moment end
    end
  end
end

if #gone > 0 then redis.call('ZREM', prefix .. 'leases', unpack(gone)) end
if #done > 0 then redis.call('HDEL', prefix .. 'tasks', unpack(done)) end
if #records > 0 then redis.call('HSET', prefix .. 'tasks', unpack(records)) end
write_buckets()
if #retries > 0 then redis.call('ZADD', prefix .. 'retries', unpack(retries)) end
if #leases > 0 then redis.call('ZADD', prefix .. 'leases', unpack(leases)) end
for _, i in ipairs(buried) do
  -- One dead letter per id: the newest error, how often, first and last time.
  local old = redis.call('HGET', prefix .. 'dead-records', ids[i])
  local count, first = string.match(string.sub(old or '', 1, 64), '^(%d+),(%d+)')
  local head = text((tonumber(count) or 0) + 1) .. ',' .. (first or text(now)) .. ',' .. text(now) .. '\n'
  redis.call('HSET', prefix .. 'dead-records', ids[i], head .. dead[i])
  redis.call('ZADD', prefix .. 'dead', text(now), ids[i])
end
if earliest then announce(earliest) end
reply[3] = table.concat(answers)
return #gone > 0 and written(reply) or reply

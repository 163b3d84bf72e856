-- claim: takes the oldest due tasks of a partition, each under a lease and a new fencing token.
--
-- KEYS[1] meta  HASH  partition; its other keys share the prefix
-- ARGV[1] epoch  integer  epoch of the partition known to the caller
-- ARGV[2] now  ms  test clock, or '' for the server's time
-- ARGV[3] limit  tasks  most tasks to take
-- ARGV[4] lease  ms  time until a claimed task becomes due again if nobody settles it
-- ARGV[5] suspects  tasks  how many of them may have taken a worker down before and lapsed now again
-- ARGV[6] bytes  bytes  stop after the task that takes the records above this sum
-- ARGV[7] first  0 or 1  whether the caller is first in line for this partition, so that nobody else has to be told the next time
-- Returns: 'ok', or the number of writes so far if it wrote, server time in us, earliest due or '', earliest lease deadline or '', then id and record of each claimed task
-- Keeps: every task in exactly one of bucket, retries, leases; nothing is taken before its time; tokens only grow.
--        A task whose lease ended is due again: there is no reaper. Begins with a removal, which a server allows whose
--        memory is full: so it drains.
--! include partition
--! include record
--! include token
--! include next
--! include hint
-- The record with a new token. A run that lapsed gets a strike, or a failed attempt if it only was not confirmed in
-- time. A damaged record stays as it is: the worker reports it, and a repair puts it right.
local function struck(record, sequence)
  local state, due, revision, _, slot, attempt, strikes, flags, follow, body, rest = parse(record)
  if not state then return record end
  if state == 'r' and not string.find(flags, 'k', 1, true) then
    if string.find(flags, 'c', 1, true) then
      -- The handler returned, and nobody confirmed in time: a failed attempt, not a death. (u: tell the worker)
      attempt = text((tonumber(attempt) or 0) + 1)
      flags = string.gsub(flags, 'c', 'u')
    else
      strikes = text((tonumber(strikes) or 0) + 1)
    end
  end
  return compose('r', due, revision, text(sequence), slot, attempt, strikes, flags, follow, rest) .. string.sub(record, body)
end

local limit, lease, max_bytes = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[6])
local due_by = text(now)

-- Candidates, oldest first: lapsed leases, then retries and buckets merged by time.
local ids, source = {}, {}
local suspects = tonumber(ARGV[5])
local lapsed = redis.call('ZRANGEBYSCORE', prefix .. 'leases', '-inf', due_by, 'LIMIT', 0, limit)
if #lapsed > 0 then
  local runs = redis.call('HMGET', prefix .. 'tasks', unpack(lapsed))
  for i = 1, #lapsed do
    local _, _, _, _, _, _, strikes, flags = parse(runs[i] or '')
    local suspect = strikes and strikes ~= '' and not string.find(flags, '[ck]')
    if suspect then suspects = suspects - 1 end
    if not suspect or suspects >= 0 then
      ids[#ids + 1] = lapsed[i]
      source[#source + 1] = 'leases'
    end
  end
end
local retries = redis.call('ZRANGEBYSCORE', prefix .. 'retries', '-inf', due_by, 'WITHSCORES', 'LIMIT', 0, limit - #ids)
local r, offset, last = 1, 0, false
-- Every bucket that is not empty gives one task at least; what else is in a damaged index is not walked to its end.
while #ids < limit and not last and offset < limit + 64 do
  local names = redis.call('ZRANGEBYSCORE', prefix .. 'index', '-inf', due_by, 'LIMIT', offset, 4)
  last = #names < 4
  offset = offset + #names
  for n = 1, #names do
    local entries = redis.call('ZRANGEBYSCORE', prefix .. 'bucket:' .. names[n], '-inf', due_by, 'WITHSCORES', 'LIMIT', 0, limit - #ids)
    local e = 1
    while e < #entries and #ids < limit do
      if retries[r] and tonumber(retries[r + 1]) <= tonumber(entries[e + 1]) then
        ids[#ids + 1] = retries[r]
        source[#source + 1] = 'retries'
        r = r + 2
      else
        ids[#ids + 1] = entries[e]
        source[#source + 1] = names[n]
        e = e + 2
      end
    end
    if #ids >= limit then break end
  end
end
while retries[r] and #ids < limit do
  ids[#ids + 1] = retries[r]
  source[#source + 1] = 'retries'
  r = r + 2
end

local reply = {'ok', now_us, '', ''}
local wrote = false
if #ids > 0 then
  -- Before anything is written, because it may be of a wrong type. A damaged one begins anew with the time.
  local sequence = math.max(stored_token(), now_us)
  local found = redis.call('HMGET', prefix .. 'tasks', unpack(ids))
  local taken, bytes = {}, 0
  local count = 0
  while count < #ids and (bytes <= max_bytes or count == 0) do
    count = count + 1
    bytes = bytes + (found[count] and #found[count] or 0)
    taken[source[count]] = (taken[source[count]] or 0) + 1
  end
  -- What was taken is the head of each set, so it goes by rank; but suspects may have been left in between.
  wrote = true
  for name, n in pairs(taken) do
    if name == 'retries' then
      redis.call('ZREMRANGEBYRANK', prefix .. 'retries', 0, n - 1)
    elseif name ~= 'leases' then
      redis.call('ZREMRANGEBYRANK', prefix .. 'bucket:' .. name, 0, n - 1)
    else
      redis.call('ZREM', prefix .. 'leases', unpack(ids, 1, n))
    end
  end

  local deadline = text(now + lease)
  local records, leases = {}, {}
  for i = 1, count do
    local id, record = ids[i], found[i]
    -- An entry without a record is a leftover of a damaged keyspace: its entry is gone now, and there is nothing to run.
    if record then
      sequence = sequence + 1
      local claimed
      -- What waits for its first run on its grid, as nearly everything does, need not be taken apart.
      local head, rest = string.match(string.sub(record, 1, 64), '^s(%d+,[^,\n]*)()\n')
      if head then
        claimed = 'r' .. head .. ',' .. text(sequence) .. string.sub(record, rest)
      else
        claimed = struck(record, sequence)
      end
      records[#records + 1] = id
      records[#records + 1] = claimed
      leases[#leases + 1] = deadline
      leases[#leases + 1] = id
      reply[#reply + 1] = id
      reply[#reply + 1] = claimed
    end
  end
  if #records > 0 then
    redis.call('HSET', prefix .. 'tasks', unpack(records))
    redis.call('ZADD', prefix .. 'leases', unpack(leases))
    redis.call('SET', prefix .. 'sequence', text(sequence))
  end
end

reply[3], reply[4] = next_times(prefix)
if ARGV[7] == '0' then
  -- A stand-in knows the next time now, but it would wake later than the first in line: that one must be told.
  if reply[3] ~= '' and reply[3] ~= meta[3] then
    meta[3] = false
    announce(tonumber(reply[3]))
  end
  return wrote and written(reply) or reply
end
-- The claimer now knows the next time, so others need not announce it again. A lapsed run that was left does not count:
-- it is a suspect that waits for another one to end, and nobody wakes for it.
local alarm, lapse = tonumber(reply[3]), tonumber(reply[4])
if lapse and lapse > now and not (alarm and alarm <= lapse) then alarm = lapse end
if not alarm then
  if meta[3] then redis.call('HDEL', KEYS[1], 'alarm') end
elseif meta[3] ~= text(alarm) then
  redis.pcall('HSET', KEYS[1], 'alarm', text(alarm))
end
return wrote and written(reply) or reply

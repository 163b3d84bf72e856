-- audit: checks a slice of a partition against its invariants, and mends what is wrong if asked to.
--
-- KEYS[1] meta  HASH  partition; its other keys share the prefix
-- ARGV[1] epoch  integer  epoch of the partition known to the caller
-- ARGV[2] now  ms  test clock, or '' for the server's time
-- ARGV[3] part  text  'tasks', 'index', 'bucket:<ms>', 'retries', 'leases', 'dead-records' or 'dead'
-- ARGV[4] cursor  integer  '0', then what the step before returned
-- ARGV[5] count  entries  about how many to check
-- ARGV[6] mend  0 or 1
-- ARGV[7] lease  ms  given to a run that has none
-- Returns: 'ok', or the number of writes so far if it wrote, server time in us, next cursor ('0' at the end), entries checked, problems (kind, id, what was found, 1 if mended), then ids and records of tasks or dead letters, or the names of buckets
-- Keeps: a record is the only copy of a task, so none is deleted: entries follow records. What cannot be read is due now.
--! include partition
--! include record
--! include place
--! include hint
local part, mend = ARGV[3], ARGV[6] == '1'
local problems, contents, earliest = {}, {}, nil

local function problem(kind, id, found, mended)
  problems[#problems + 1] = kind
  problems[#problems + 1] = id
  problems[#problems + 1] = found
  problems[#problems + 1] = mended and '1' or '0'
end

local function soon(moment)
  if not earliest or moment < earliest then earliest = moment end
end

-- The set in which a task of this header belongs, and its score there (none for a lease).
local function place_of(state, due)
  if state == 's' then return 'bucket:' .. bucket_of(tonumber(due)), tonumber(due) end
  if state == 'w' then return 'retries', tonumber(due) end
  if state == 'r' then return 'leases' end
end

local function put(id, set, score)
  if not score then
    score = now + ARGV[7]
    redis.call('ZADD', prefix .. set, 'NX', text(score), id)
  else
    redis.call('ZADD', prefix .. set, text(score), id)
    if set ~= 'retries' then
      local bucket = string.sub(set, 8)
      redis.call('ZADD', prefix .. 'index', bucket, bucket)
    end
  end
  soon(score)
end

local function check_task(id, record, sequence)
  local state, due, _, token = parse(record)
  local set, score = place_of(state, due)
  if not set then
    local body = string.match(record, '\n(.*)$')
    if body and mend then
      redis.call('ZREM', prefix .. 'retries', id)
      redis.call('ZREM', prefix .. 'leases', id)
      redis.call('HSET', prefix .. 'tasks', id, compose('s', text(now), 'repaired', '', '', '', '', '', '') .. body)
      put(id, place_of('s', text(now)))
    end
    problem('header', id, string.match(record, '^[^\n]*'), body and mend)
    return sequence
  end
  local found = redis.call('ZSCORE', prefix .. set, id)
  if not found or (score and tonumber(found) ~= score) then
    if mend then put(id, set, score) end
    problem('place', id, set .. ' ' .. (found or 'without it'), mend)
  elseif state == 's' and not redis.call('ZSCORE', prefix .. 'index', string.sub(set, 8)) then
    if mend then put(id, set, score) end
    problem('index', id, set .. ' is not in the index', mend)
  end
  local number = tonumber(token ~= '' and token or 0) or 0
  if number > sequence then
    if mend then redis.call('SET', prefix .. 'sequence', token) end
    problem('token', id, token .. ' above ' .. text(sequence), mend)
    return number
  end
  return sequence
end

local function check_entry(id, found, record)
  local state, due = parse(record or '')
  local set, score = place_of(state, due)
  -- A record that cannot be read is the problem of its own part.
  if record and not set then return end
  if set == part and (not score or score == tonumber(found)) then return end
  if mend then
    if set ~= part then redis.call('ZREM', prefix .. part, id) end
    if set then put(id, set, score) end
  end
  problem('entry', id, part .. ' ' .. found .. (set and ', but it belongs into ' .. set or ', but there is no such task'), mend)
end

local function check_bucket(name, found)
  local start = tonumber(name)
  if start and start == tonumber(found) and bucket_of(start) == name then return end
  if mend and start and bucket_of(start) == name then redis.call('ZADD', prefix .. 'index', name, name) end
  if mend and not (start and bucket_of(start) == name) then redis.call('ZREM', prefix .. 'index', name) end
  problem('index', name, 'score ' .. found, mend)
end

local function check_letter(id, record)
  local last = string.match(record, '^%d+,%d+,(%d+)\n')
  if not last then
    local body = string.match(record, '\n(.*)$')
    last = text(now)
    if body and mend then redis.call('HSET', prefix .. 'dead-records', id, '1,' .. last .. ',' .. last .. '\n' .. body) end
    problem('header', id, string.match(record, '^[^\n]*'), body and mend)
  end
  if not redis.call('ZSCORE', prefix .. 'dead', id) then
    if mend then redis.call('ZADD', prefix .. 'dead', last, id) end
    problem('dead', id, 'a dead letter that is not listed', mend)
  end
end

local cursor, entries
if part == 'tasks' or part == 'dead-records' then
  cursor, entries = unpack(redis.call('HSCAN', prefix .. part, ARGV[4], 'COUNT', ARGV[5]))
  contents = entries
  local sequence = tonumber(redis.call('GET', prefix .. 'sequence') or 0)
  for i = 1, #entries, 2 do
    if part == 'tasks' then
      sequence = check_task(entries[i], entries[i + 1], sequence)
    else
      check_letter(entries[i], entries[i + 1])
    end
  end
else
  cursor, entries = unpack(redis.call('ZSCAN', prefix .. part, ARGV[4], 'COUNT', ARGV[5]))
  for i = 1, #entries, 2 do
    local id, found = entries[i], entries[i + 1]
    if part == 'index' then
      contents[#contents + 1] = id
      check_bucket(id, found)
    elseif part ~= 'dead' then
      check_entry(id, found, redis.call('HGET', prefix .. 'tasks', id))
    elseif not redis.call('HGET', prefix .. 'dead-records', id) then
      if mend then redis.call('ZREM', prefix .. 'dead', id) end
      problem('dead', id, 'listed, but there is no such dead letter', mend)
    end
  end
end
if earliest then
  -- What was out of place was waited for by nobody.
  meta[3] = false
  announce(earliest)
end
local reply = {'ok', now_us, cursor, #entries / 2, problems, contents}
return mend and #problems > 0 and written(reply) or reply

-- audit: checks a slice of a partition against its invariants, and repairs what is wrong if asked to.
--
-- KEYS[1] meta  HASH  partition; its other keys share the prefix
-- ARGV[1] epoch  integer  epoch of the partition known to the caller
-- ARGV[2] now  ms  test clock, or '' for the server's time
-- ARGV[3] part  text  'keys', 'tasks', 'index', 'bucket:<ms>', 'retries', 'leases', 'dead-records' or 'dead'
-- ARGV[4] cursor  integer  '0', then what the step before returned
-- ARGV[5] count  entries  about how many to check
-- ARGV[6] repair  0 or 1
-- ARGV[7] lease  ms  given to a run that has none
-- Returns: 'ok', or the number of writes so far if it wrote, server time in us, next cursor ('0' at the end), entries checked, problems (kind, id, what was found, 1 if repaired), then ids and records of tasks or dead letters, or the names of buckets
-- Keeps: a record is the only copy of a task, so none is deleted: entries follow records. What cannot be read is due now.
--! include partition
--! include record
--! include token
--! include place
--! include hint
local part, repair = ARGV[3], ARGV[6] == '1'
local problems, contents, earliest = {}, {}, nil

local function problem(kind, id, found, repaired)
  problems[#problems + 1] = kind
  problems[#problems + 1] = id
  problems[#problems + 1] = found
  problems[#problems + 1] = repaired and '1' or '0'
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

local function put(state, due, id)
  if state == 'r' then
    due = text(now + ARGV[7])
    redis.call('ZADD', prefix .. 'leases', 'NX', due, id)
  else
    place(state, due, id)
  end
  soon(tonumber(due))
end

local function check_task(id, record, sequence)
  local state, due, _, token = parse(record)
  local set, score = place_of(state, due)
  if not set then
    local body = body_of(record)
    if body and repair then
      withdraw(nil, nil, id)
      redis.call('HSET', prefix .. 'tasks', id, compose('s', text(now), 'repaired', '', '', '', '', '', '') .. body)
      put('s', text(now), id)
    end
    problem('header', id, string.match(string.sub(record, 1, 200), '^[^\n]*'), body and repair)
    return sequence
  end
  local found = redis.call('ZSCORE', prefix .. set, id)
  if not found or (score and tonumber(found) ~= score) then
    if repair then put(state, due, id) end
    problem('place', id, set .. ' ' .. (found or 'without it'), repair)
  elseif state == 's' and not redis.call('ZSCORE', prefix .. 'index', string.sub(set, 8)) then
    if repair then put(state, due, id) end
    problem('index', id, set .. ' is not in the index', repair)
  end
  local number = tonumber(token ~= '' and token or 0) or 0
  if number > sequence then
    if repair then redis.call('SET', prefix .. 'sequence', token) end
    problem('token', id, token .. ' above ' .. text(sequence), repair)
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
  if repair then
    if set ~= part then redis.call('ZREM', prefix .. part, id) end
    if set then put(state, due, id) end
  end
  problem('entry', id, part .. ' ' .. found .. (set and ', but it belongs into ' .. set or ', but there is no such task'), repair)
end

local function check_bucket(name, found)
  local start = tonumber(name)
  if start and start == tonumber(found) and bucket_of(start) == name then return end
  if repair and start and bucket_of(start) == name then redis.call('ZADD', prefix .. 'index', name, name) end
  if repair and not (start and bucket_of(start) == name) then redis.call('ZREM', prefix .. 'index', name) end
  problem('index', name, 'score ' .. found, repair)
end

local function check_dead_letter(id, record)
  local last = string.match(string.sub(record, 1, 64), '^%d+,%d+,(%d+)\n')
  if not last then
    local body = body_of(record)
    last = text(now)
    if body and repair then redis.call('HSET', prefix .. 'dead-records', id, '1,' .. last .. ',' .. last .. '\n' .. body) end
    problem('header', id, string.match(string.sub(record, 1, 200), '^[^\n]*'), body and repair)
  end
  if not redis.call('ZSCORE', prefix .. 'dead', id) then
    if repair then redis.call('ZADD', prefix .. 'dead', last, id) end
    problem('dead', id, 'a dead letter that is not listed', repair)
  end
end

local types = {
  tasks = 'hash', index = 'zset', retries = 'zset', leases = 'zset', dead = 'zset', ['dead-records'] = 'hash', sequence = 'string',
}

-- What follows from the records is dropped where it is of a wrong type, and made anew by the parts after this one.
local function check_keys()
  for name, expected in pairs(types) do
    local found = redis.call('TYPE', prefix .. name).ok
    if found ~= 'none' and found ~= expected then
      local follows = repair and expected ~= 'hash'
      if follows then redis.call('UNLINK', prefix .. name) end
      problem('key', name, 'is of type ' .. found .. ', not ' .. expected, follows)
    end
  end
  local sequence = redis.pcall('GET', prefix .. 'sequence')
  if type(sequence) == 'string' and sequence ~= '0' and stored_token() == 0 then
    if repair then redis.call('SET', prefix .. 'sequence', text(now_us)) end
    problem('token', 'sequence', sequence, repair)
  end
end

local cursor, entries
if part == 'keys' then
  cursor, entries = '0', {}
  check_keys()
elseif part == 'tasks' or part == 'dead-records' then
  cursor, entries = unpack(redis.call('HSCAN', prefix .. part, ARGV[4], 'COUNT', ARGV[5]))
  contents = entries
  local sequence = stored_token()
  for i = 1, #entries, 2 do
    if part == 'tasks' then
      sequence = check_task(entries[i], entries[i + 1], sequence)
    else
      check_dead_letter(entries[i], entries[i + 1])
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
      if repair then redis.call('ZREM', prefix .. 'dead', id) end
      problem('dead', id, 'listed, but there is no such dead letter', repair)
    end
  end
end
if earliest then
  -- No worker waits for what was out of place: it is announced whatever the alarm says.
  meta[3] = false
  announce(earliest)
end
local reply = {'ok', now_us, cursor, #entries / 2, problems, contents}
return repair and #problems > 0 and written(reply) or reply

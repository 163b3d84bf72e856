-- upcoming: one page of the waiting tasks of a partition, in due order.
--
-- KEYS[1] meta  HASH  partition; its other keys share the prefix
-- ARGV[1] epoch  integer  epoch of the partition known to the caller
-- ARGV[2] now  ms  test clock, or '' for the server's time
-- ARGV[3] from  ms  or '-inf'; with ARGV[4] it is the due time of the last task seen, and tasks of that time are skipped up to that id
-- ARGV[4] after  text  id of the last task seen, or ''
-- ARGV[5] until  ms  or '+inf', inclusive
-- ARGV[6] limit  tasks
-- Returns: 'ok', server time in us, then due, id and record of each task
-- Keeps: reads only; ties are in the order of their ids.
--! include partition
local from, after, limit = ARGV[3], ARGV[4], tonumber(ARGV[6])
local lowest, highest = tonumber(from) or -1, tonumber(ARGV[5]) or math.huge

-- Appends up to limit entries of a sorted set that lie behind the cursor.
local function read(key, entries)
  local start
  if from == '-inf' then
    start = 0
  else
    start = after ~= '' and redis.call('ZRANK', key, after)
    if start and tonumber(redis.call('ZSCORE', key, after)) == lowest then
      start = start + 1
    else
      start = redis.call('ZCOUNT', key, '-inf', '(' .. from)
    end
  end
  local taken = 0
  while taken < limit do
    local page = redis.call('ZRANGE', key, start, start + limit - 1, 'WITHSCORES')
    for i = 1, #page, 2 do
      local due = tonumber(page[i + 1])
      if due > highest then return end
      if due > lowest or page[i] > after then
        entries[#entries + 1] = {due, page[i]}
        taken = taken + 1
      end
    end
    if #page < 2 * limit then return end
    start = start + limit
  end
end

local entries = {}
read(prefix .. 'retries', entries)
local retrying = #entries
-- Index and buckets are both in time order: whole buckets, from the one that holds the cursor on, until a page is full.
local first = lowest < 0 and '-inf' or string.format('%.0f', lowest - lowest % width)
local offset = 0
while #entries - retrying < limit do
  local names = redis.call('ZRANGEBYSCORE', prefix .. 'index', first, ARGV[5], 'LIMIT', offset, 16)
  for _, name in ipairs(names) do
    read(prefix .. 'bucket:' .. name, entries)
    if #entries - retrying >= limit then break end
  end
  offset = offset + 16
  if #names < 16 then break end
end
table.sort(entries, function(a, b)
  if a[1] ~= b[1] then return a[1] < b[1] end
  return a[2] < b[2]
end)

local reply = {'ok', now_us}
for i = 1, math.min(limit, #entries) do
  local record = redis.call('HGET', prefix .. 'tasks', entries[i][2])
  if record then
    reply[#reply + 1] = string.format('%.0f', entries[i][1])
    reply[#reply + 1] = entries[i][2]
    reply[#reply + 1] = record
  end
end
return reply

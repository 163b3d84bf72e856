-- partition: checks that this server owns the partition, and reads its time. Expects ARGV[1] epoch, ARGV[2] now.
local prefix = string.sub(KEYS[1], 1, -5)
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'width', 'alarm')
if meta[1] ~= ARGV[1] then
  return {meta[1] and 'moved' or 'absent'}
end
local width = tonumber(meta[2])
if not (width and width >= 1 and width < 1e12) then return {'damaged'} end
local now_us
if ARGV[2] == '' then
  local time = redis.call('TIME')
  now_us = time[1] * 1000000 + time[2]
else
  now_us = ARGV[2] * 1000
end
local now = math.floor(now_us / 1000)

-- The reply of a script that has written: it begins with how many times the partition was written to. A server that
-- comes back with a smaller number than it has told has lost writes.
local function written(reply)
  local count = redis.pcall('HINCRBY', KEYS[1], 'writes', 1)
  if type(count) ~= 'number' then
    -- It is no number, or the largest one: what was written before this must be told all the same.
    redis.call('HSET', KEYS[1], 'writes', '1')
    count = 1
  end
  reply[1] = count
  return reply
end

local bucket_names = {}
local function bucket_of(due)
  local start = due - due % width
  local name = bucket_names[start]
  if not name then
    name = string.format('%.0f', start)
    bucket_names[start] = name
  end
  return name
end

-- look: reads the next times of several partitions of one instance.
--
-- KEYS[1...] meta  HASH  partitions; the other keys of each share its prefix
-- ARGV[1] now  ms  test clock, or '' for the server's time
-- ARGV[2] forgets  0 or 1  whether the caller forgets what it knew before, as workers do
-- ARGV[3...] epochs  integer  one per partition
-- Returns: 'ok', server time in us, then per partition: earliest due or '' (or 'moved', 'absent', 'damaged'), earliest lease deadline or ''
-- Keeps: changes nothing, but drops empty buckets from the index, and an alarm for which there is no task any more: a
--        worker that looks forgets that time, so a later task must be announced. A lapsed run does not count as a task
--        here: it may be a suspect that waits for another one to end.
--! include next
local time = redis.call('TIME')
local now_us = ARGV[1] == '' and time[1] * 1000000 + time[2] or ARGV[1] * 1000
local reply = {'ok', now_us}
for i = 1, #KEYS do
  local meta = redis.pcall('HMGET', KEYS[i], 'epoch', 'alarm')
  local sound, due, lapse = not meta.err, '', ''
  -- A key of a wrong type must not keep this worker from the other partitions.
  if sound and meta[1] == ARGV[i + 2] then sound, due, lapse = pcall(next_times, string.sub(KEYS[i], 1, -5)) end
  if not sound then
    reply[2 * i + 1], reply[2 * i + 2] = 'damaged', ''
  elseif meta[1] == ARGV[i + 2] then
    reply[2 * i + 1], reply[2 * i + 2] = due, lapse
    local alarm, waits, lapses = tonumber(meta[2] or ''), tonumber(due), tonumber(lapse)
    if ARGV[2] == '1' and alarm and not (waits and alarm >= waits) and not (lapses and lapses > now_us / 1000 and alarm >= lapses) then
      redis.pcall('HDEL', KEYS[i], 'alarm')
    end
  else
    reply[2 * i + 1], reply[2 * i + 2] = meta[1] and 'moved' or 'absent', ''
  end
end
return reply

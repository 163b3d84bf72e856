-- handshake: tells partitions which run of their server serves them, and reads how each run found them.
--
-- KEYS[1...] meta  HASH  partitions of one instance; the other keys of each share its prefix
-- ARGV[1] run_id  text  of the server: another one after each start
-- ARGV[2...] tokens  integer  the largest fencing token known of each partition, 0 for none
-- Returns: 'ok', then per partition: writes so far (or '' where it is absent), and the starts of its server, oldest first, as 'run_id:writes '
-- Keeps: the first client that connects after a start notes how many writes survived, before it writes itself;
--        tokens never fall below one that a client has seen.
local reply = {'ok'}
for i = 1, #KEYS do
  -- What is damaged in one partition must not keep anybody from the others.
  local meta = redis.pcall('HMGET', KEYS[i], 'epoch', 'writes', 'starts')
  if meta.err then meta = {} end
  local writes, starts = meta[2] or '0', string.sub(meta[3] or '', 1, 2000)
  if #writes > 16 or not string.find(writes, '^%d+$') then writes = '0' end
  if not meta[1] then
    writes = ''
  else
    if not string.find(starts, ARGV[1] .. ':', 1, true) then
      starts = starts .. ARGV[1] .. ':' .. writes .. ' '
      -- The last few are enough: a client that was away for longer compares with the oldest one left.
      local _, count = string.gsub(starts, ' ', '')
      if count > 8 then starts = string.gsub(starts, '^%S+ ', '') end
      redis.pcall('HSET', KEYS[i], 'starts', starts)
    end
    local sequence = string.sub(KEYS[i], 1, -5) .. 'sequence'
    local stored = redis.pcall('GET', sequence)
    local token = type(stored) == 'string' and tonumber(stored) or 0
    if not (tonumber(ARGV[i + 1]) <= token) then redis.pcall('SET', sequence, ARGV[i + 1]) end
  end
  reply[2 * i], reply[2 * i + 1] = writes, starts
end
return reply

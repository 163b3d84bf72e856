-- lock: takes a lock, prolongs it, or gives it back, comparing the holder.
--
-- KEYS[1] lock  STRING  holder
-- KEYS[2] sequence  STRING  last fencing token given with a lock
-- ARGV[1] action  take, extend or release
-- ARGV[2] holder  text  made by the caller, known to nobody else
-- ARGV[3] ttl  ms
-- Returns: 'ok', the fencing token where the lock was taken, 1 where extended or released, 0 where held by another
-- Keeps: compare and change in one step: nobody prolongs or frees what another holds; tokens only grow.
if ARGV[1] == 'take' then
  local current = redis.call('GET', KEYS[1])
  if current and current ~= ARGV[2] then return {'ok', '0'} end
  local time = redis.call('TIME')
  -- A damaged sequence begins anew, with the time of the server.
  local stored = redis.pcall('GET', KEYS[2])
  local last = type(stored) == 'string' and tonumber(stored) or 0
  if not (last < 9007199254740991) then last = 0 end
  local token = string.format('%.0f', math.max(last, time[1] * 1000000 + time[2]) + 1)
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  redis.call('SET', KEYS[2], token)
  return {'ok', token}
end
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return {'ok', '0'} end
if ARGV[1] == 'extend' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  redis.call('DEL', KEYS[1])
end
return {'ok', '1'}

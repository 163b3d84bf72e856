-- hint: tells one worker that something is due before the time the workers know of.

-- The alarm is the earliest time some worker was told to wake at, so at most one hint is outstanding per partition.
-- An alarm that is long past was lost with its worker: the hint is given again. This comes last and by pcall, because a
-- missing right or a full memory must not make a script fail that has already written.
local function announce(due)
  local alarm = tonumber(meta[3] or '')
  if alarm and alarm <= due and alarm > now - 1000 then return end
  redis.pcall('HSET', KEYS[1], 'alarm', string.format('%.0f', due))
  local message = string.format('%.0f', due)
  if redis.pcall('PUBLISH', prefix .. 'hint', message) == 0 then
    -- Nobody prefers this partition at the moment: any worker may take it.
    redis.pcall('PUBLISH', string.gsub(prefix, '^{(.*):(%d+)}:$', '{%1}:hint'), string.gsub(prefix, '^.*:(%d+)}:$', '%1') .. ' ' .. message)
  end
end

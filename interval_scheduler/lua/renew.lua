-- renew: prolongs the leases of live runs.
--
-- KEYS[1] meta  HASH  partition; its other keys share the prefix
-- ARGV[1] epoch  integer  epoch of the partition known to the caller
-- ARGV[2] now  ms  test clock, or '' for the server's time
-- ARGV[3] lease  ms  the leases then end this long after now, unless they end later already
-- ARGV[4...] runs  id, token
-- Returns: 'ok', server time in us, one digit per run: 1 renewed, 0 lost
-- Keeps: only the holder of the newest token renews. Begins with a removal (of nothing), which a server
--        allows whose memory is full: so leases are kept.
--! include partition
--! include record
local ids = {}
for i = 4, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local found = redis.call('HMGET', prefix .. 'tasks', unpack(ids))
local answers, leases, deadline = {}, {}, text(now + ARGV[3])
for i = 1, #ids do
  local state, _, _, token = parse(found[i] or '')
  if state == 'r' and token == ARGV[2 * i + 3] then
    answers[i] = '1'
    leases[#leases + 1] = deadline
    leases[#leases + 1] = ids[i]
  else
    answers[i] = '0'
  end
end
if #leases > 0 then
  redis.call('ZREM', prefix .. 'leases', '')
  redis.call('ZADD', prefix .. 'leases', 'XX', 'GT', unpack(leases))
end
return {'ok', now_us, table.concat(answers)}

-- nudge: passes a hint on to one worker that may have free slots.
--
-- KEYS[1] workers  ZSET  names the namespace; only routes the call
-- ARGV[1] worker  text  whose channel to use
-- ARGV[2] message  text  partition and due time in ms
-- Returns: 'ok', number of receivers
-- Keeps: changes nothing.
return {'ok', redis.call('PUBLISH', string.gsub(KEYS[1], ':workers$', ':worker:') .. ARGV[1], ARGV[2])}

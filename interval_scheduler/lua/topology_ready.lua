-- topology_ready: records that every partition of a new namespace exists.
--
-- KEYS[1] topology  HASH
-- Returns: 'ok'
-- Keeps: from now on a missing partition means lost data, and is refused instead of made again.
redis.call('HSET', KEYS[1], 'state', 'ready')
return {'ok'}

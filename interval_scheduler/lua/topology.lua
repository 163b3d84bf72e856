-- topology: reads the topology of a namespace, writing the proposed one first where there is none.
--
-- KEYS[1] topology  HASH
-- ARGV[1] format  integer  version of the data layout
-- ARGV[2] partitions  integer  0 proposes nothing
-- ARGV[3] width  ms  bucket width
-- ARGV[4] owners  text  msgpack list: name of the owner of each partition
-- Returns: 'ok', format, partitions, width, owners, state ('creating' until the partitions exist, then 'ready')
-- Keeps: the first proposal wins; everybody else gets that one.
if ARGV[2] ~= '0' and redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'format', ARGV[1], 'partitions', ARGV[2], 'width', ARGV[3], 'owners', ARGV[4], 'state', 'creating')
end
local found = redis.call('HMGET', KEYS[1], 'format', 'partitions', 'width', 'owners', 'state')
return {'ok', found[1], found[2], found[3], found[4], found[5]}

-- create_partition: creates a partition on its owner while the namespace is being created.
--
-- KEYS[1] meta  HASH
-- ARGV[1] format  integer  version of the data layout
-- ARGV[2] width  ms  bucket width
-- ARGV[3] owner  text  name of the instance
-- Returns: 'ok'
-- Keeps: an existing partition stays as it is.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'format', ARGV[1], 'width', ARGV[2], 'owner', ARGV[3], 'epoch', '1')
end
return {'ok'}

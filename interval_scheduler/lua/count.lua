-- count: how much is in a partition, by state.
--
-- KEYS[1] meta  HASH  partition; its other keys share the prefix
-- ARGV[1] epoch  integer  epoch of the partition known to the caller
-- ARGV[2] now  ms  test clock, or '' for the server's time
-- Returns: 'ok', server time in us, tasks, buckets, retrying, running, dead, earliest due or ''
-- Keeps: changes nothing, but drops empty buckets from the index.
--! include partition
--! include next
return {
  'ok', now_us,
  redis.call('HLEN', prefix .. 'tasks'),
  redis.call('ZCARD', prefix .. 'index'),
  redis.call('ZCARD', prefix .. 'retries'),
  redis.call('ZCARD', prefix .. 'leases'),
  redis.call('HLEN', prefix .. 'dead-records'),
  (next_times(prefix)),
}

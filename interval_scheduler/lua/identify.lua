-- identify: reads the name an instance carries in this namespace, giving it one first where allowed.
--
-- KEYS[1] instance  STRING
-- ARGV[1] name  text  what the caller takes this instance for
-- ARGV[2] give  1 to name it where it has no name, 0 to only read
-- Returns: 'ok', the name it carries or ''
-- Keeps: a name never changes, so that swapped addresses are noticed.
if ARGV[2] == '1' then redis.call('SET', KEYS[1], ARGV[1], 'NX') end
return {'ok', redis.call('GET', KEYS[1]) or ''}

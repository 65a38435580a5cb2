-- KEYS: owners, people, the person's passkeys, counts. ARGV: id, person. 0: the person has no such passkey.
if redis.call('HDEL', KEYS[3], ARGV[1]) == 0 then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
if redis.call('HLEN', KEYS[3]) == 0 then redis.call('HDEL', KEYS[2], ARGV[2]) end
return 1

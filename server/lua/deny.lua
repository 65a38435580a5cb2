-- KEYS: denials, version. ARGV: now, the new version, the denial's end, the denial.
-- What has ended goes. The version changes with the list: replicas see in one small read whether they are current.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[4])
redis.call('SET', KEYS[2], ARGV[2])
return 1

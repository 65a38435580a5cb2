-- KEYS: the session. ARGV: milliseconds until Redis may forget it, then fields.
-- A request that races with a logout must not bring the session back.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1

-- KEYS: the session, then an index and its bar for the person, and (or the same again) for the provider's session.
-- ARGV: when the ID token was issued, the session's name in the indexes, now, when the session ends at the latest, for
-- how long the indexes are needed and the session may be left alone (both milliseconds), then its fields.
-- A bar says when the provider ended everything there: what was issued before that starts no session.
for _, bar in ipairs({KEYS[3], KEYS[5]}) do
  local since = redis.call('GET', bar)
  if since and tonumber(ARGV[1]) < tonumber(since) then
    return 0
  end
end
redis.call('HSET', KEYS[1], unpack(ARGV, 7))
redis.call('PEXPIRE', KEYS[1], ARGV[6])
for _, index in ipairs({KEYS[2], KEYS[4]}) do
  redis.call('ZREMRANGEBYSCORE', index, '-inf', ARGV[3])
  redis.call('ZADD', index, ARGV[4], ARGV[2])
  redis.call('PEXPIRE', index, ARGV[5])
end
return 1

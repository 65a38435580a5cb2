-- Takes messages that are due, for as long as one attempt may last: then they are due again, unless they are done with.
--
-- KEYS  1 due times   2 messages
-- ARGV  1 now   2 due again at   3 how many at most
-- Returns the messages.

local taken = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])) do
  local message = redis.call('HGET', KEYS[2], id)
  if message then
    redis.call('ZADD', KEYS[1], ARGV[2], id)
    taken[#taken + 1] = message
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return taken

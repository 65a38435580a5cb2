-- Keeps messages for sending, once for each thing that is told; or nothing, where it was told before.
--
-- KEYS  1 what was told of the proposal   2 due times   3 messages
-- ARGV  1 what is told   2 milliseconds after which that is forgotten   3 when the messages are due
--       4… ids of messages and messages in turn
-- Returns 1 when they are kept, 0 when it was told before.

if redis.call('SADD', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
for i = 4, #ARGV, 2 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
  redis.call('ZADD', KEYS[2], ARGV[3], ARGV[i])
end
return 1

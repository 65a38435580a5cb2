-- Forgets those consumers of a consumer group that hold no entry and have been idle for long.
--
-- KEYS  1 the stream
-- ARGV  1 the group   2 milliseconds
-- Returns how many there were.

local forgotten = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local about = {}
  for i = 1, #consumer, 2 do
    about[consumer[i]] = consumer[i + 1]
  end
  if about.pending == 0 and about.idle >= tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], about.name)
    forgotten = forgotten + 1
  end
end
return forgotten

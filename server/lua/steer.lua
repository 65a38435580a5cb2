-- Puts another order in place of the one that stands for a proposal, and tells of it; or changes nothing at all.
--
-- KEYS  1 the order   2 the proposal   3 events
-- ARGV  1 id   2 order now ("": none)   3 order after ("": none)   4 seconds until it may be forgotten   5 time
--       6 by whom   7 events to keep   8… states of the proposal in which there is something to steer
-- Returns 1 done, 0 another order was first, -1 the proposal is in no such state (any more).

local state = redis.call('HGET', KEYS[2], 'state')
local held = redis.call('GET', KEYS[1]) or ''
if held ~= ARGV[2] then
  return held == ARGV[3] and 1 or 0 -- 1: the client asked again because the answer to the first time was lost
end
local open = false
for i = 8, #ARGV do
  open = open or state == ARGV[i]
end
if not open then
  return -1
end
if ARGV[3] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
end
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[7], '*', 'proposal', ARGV[1], 'state', state, 'at', ARGV[5], 'by', ARGV[6])
return 1

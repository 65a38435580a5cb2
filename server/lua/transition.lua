-- Moves one proposal from a version to the next, and tells of it; or changes nothing at all.
--
-- KEYS  1 the proposal   2 events   3 work   4 all proposals   5 expiry times   6… leases that must still be held
-- ARGV  1 id   2 version now ("" for a new one)   3 state now   4 token of this very attempt   5 fence of the leases
--       6 state after   7 time   8 by whom   9 when it expires ("" if it no longer can)   10 "1" to wake the applier
--       11 events to keep   12… fields and their values
-- Returns 1 done, 0 another was first, -1 a lease is lost.

local held = redis.call('HMGET', KEYS[1], 'version', 'state', 'token')
if held[3] == ARGV[4] then
  return 1 -- the client asked again because the answer to the first time was lost
end
if (held[1] or '') ~= ARGV[2] or (held[2] or '') ~= ARGV[3] then
  return 0
end
for i = 6, #KEYS do
  if redis.call('HGET', KEYS[i], 'fence') ~= ARGV[5] then
    return -1
  end
end

local version = string.format('%d', tonumber(held[1] or '0') + 1)
redis.call('HSET', KEYS[1], 'version', version, 'token', ARGV[4], unpack(ARGV, 12))
redis.call('ZADD', KEYS[4], 0, ARGV[1])
if ARGV[9] == '' then
  redis.call('ZREM', KEYS[5], ARGV[1])
else
  redis.call('ZADD', KEYS[5], ARGV[9], ARGV[1])
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[11], '*',
  'proposal', ARGV[1], 'state', ARGV[6], 'at', ARGV[7], 'by', ARGV[8])
if ARGV[10] == '1' then
  redis.call('XADD', KEYS[3], '*', 'proposal', ARGV[1])
end
return 1

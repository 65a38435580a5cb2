-- Moves one proposal from a version to the next, and tells of it; or changes nothing at all.
--
-- KEYS  1 the proposal   2 events   3 work   4 all proposals   5 expiry times   6 broken glass that is unreviewed
--       7 people who had a proposal applied   8 the order that stands for it   9 what is stuck
--       10… leases that must still be held   … ledgers of the apps it is begun for
-- ARGV  1 id   2 version now ("" for a new one)   3 state now   4 token of this very attempt   5 fence of the leases
--       6 state after   7 time   8 by whom   9 when it expires ("" if it no longer can)   10 "1" to wake the applier
--       11 events to keep   12 when its glass was broken ("": not, or reviewed)   13 who had it applied ("": nobody yet)
--       14 number of leases   15 until when ledgers may forget   16 since when it is stuck ("": it is not)
--       17… per ledger: how many changes, and the newest that was there when the budget was judged
--       … fields and their values
-- Returns 1 done, 0 another was first, -1 a lease is lost, -2 another has begun something of the same app, -3 it can't be
-- applied while an order stands.

local held = redis.call('HMGET', KEYS[1], 'version', 'state', 'token')
if held[3] == ARGV[4] then
  redis.call('HSET', KEYS[1], 'token', ARGV[4]) -- written again: this connection may be asked who has it
  return 1 -- the client asked again because the answer to the first time was lost
end
if (held[1] or '') ~= ARGV[2] or (held[2] or '') ~= ARGV[3] then
  return 0
end
local first = 10 + tonumber(ARGV[14]) -- of the ledgers
for i = 10, first - 1 do
  if redis.call('HGET', KEYS[i], 'fence') ~= ARGV[5] then
    return -1
  end
end
if ARGV[6] == 'applied' and held[2] ~= 'applied' and (redis.call('GET', KEYS[8]) or ''):find('"order":', 1, true) then
  return -3
end
local at = tonumber(ARGV[7])
for i = first, #KEYS do
  local newest = redis.call('ZRANGE', KEYS[i], -1, -1, 'WITHSCORES')
  if (newest[1] or '') ~= ARGV[18 + 2 * (i - first)] then
    return -2
  end
  at = math.max(at, tonumber(newest[2] or '0') + 0.001) -- a ledger is in order, whatever the clocks say
end

local version = string.format('%d', tonumber(held[1] or '0') + 1)
redis.call('HSET', KEYS[1], 'version', version, 'token', ARGV[4], unpack(ARGV, 17 + 2 * (#KEYS - first + 1)))
redis.call('ZADD', KEYS[4], 0, ARGV[1])
local function list(key, score)
  if score == '' then
    redis.call('ZREM', key, ARGV[1])
  else
    redis.call('ZADD', key, score, ARGV[1])
  end
end
list(KEYS[5], ARGV[9])
list(KEYS[6], ARGV[12])
list(KEYS[9], ARGV[16])
if ARGV[13] ~= '' then
  redis.call('SADD', KEYS[7], ARGV[13])
end
for i = first, #KEYS do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', ARGV[15])
  for number = 1, tonumber(ARGV[17 + 2 * (i - first)]) do
    redis.call('ZADD', KEYS[i], 'NX', string.format('%.3f', at), ARGV[1] .. '/' .. number)
  end
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[11], '*',
  'proposal', ARGV[1], 'state', ARGV[6], 'at', ARGV[7], 'by', ARGV[8])
if ARGV[10] == '1' then
  redis.call('XADD', KEYS[3], '*', 'proposal', ARGV[1])
end
return 1

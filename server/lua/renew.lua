-- Sets the time left of leases that are still held under this fence (0 lets go of them and keeps the claim).
--
-- KEYS  leases      ARGV  1 fence   2 milliseconds      Returns 1, or 0 when one is lost (and then changes none).

for i = 1, #KEYS do
  if redis.call('HGET', KEYS[i], 'fence') ~= ARGV[1] then
    return 0
  end
end
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
for i = 1, #KEYS do
  redis.call('HSET', KEYS[i], 'until', string.format('%.0f', now + tonumber(ARGV[2])))
end
return 1

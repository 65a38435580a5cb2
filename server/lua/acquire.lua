-- Takes the leases on all targets of one proposal, or none.
--
-- A target stays claimed by its proposal until released, even when the lease on it has run out: what was interrupted
-- is resumed (by anyone) before another proposal may touch the same target.
--
-- A fence is a number that only grows, and the owner: a failover may have forgotten the last numbers, and two owners must
-- not come to hold the same fence.
--
-- KEYS  1 the fence counter   2… leases      ARGV  1 proposal   2 owner   3 milliseconds
-- Returns the fence, or 0 when another holds one of them.

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
for i = 2, #KEYS do
  local held = redis.call('HMGET', KEYS[i], 'proposal', 'owner', 'until')
  if held[1] and (held[1] ~= ARGV[1] or (held[2] ~= ARGV[2] and tonumber(held[3]) > now)) then
    return 0
  end
end

local fence = string.format('%d/%s', redis.call('INCR', KEYS[1]), ARGV[2])
local ends = string.format('%.0f', now + tonumber(ARGV[3]))
for i = 2, #KEYS do
  redis.call('HSET', KEYS[i], 'proposal', ARGV[1], 'owner', ARGV[2], 'until', ends, 'fence', fence)
end
return fence

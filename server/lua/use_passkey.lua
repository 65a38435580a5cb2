-- KEYS: counts. ARGV: id, the count of this use. 0: no higher than the last one. Without a count (0) nothing is known.
local last = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
local count = tonumber(ARGV[2])
if count <= last and (count > 0 or last > 0) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], count)
return 1

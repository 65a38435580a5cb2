-- KEYS: owners, people, the person's passkeys. ARGV: id, person, who they are, passkey, how many one person may have.
-- 1: kept; 0: the passkey is somebody's already; -1: there are too many.
if redis.call('HLEN', KEYS[3]) >= tonumber(ARGV[5]) then return -1 end
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('HSET', KEYS[3], ARGV[1], ARGV[4])
return 1

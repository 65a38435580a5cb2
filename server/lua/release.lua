-- Gives up a proposal's claims: its targets are free for others.
--
-- KEYS  leases      ARGV  1 proposal

for i = 1, #KEYS do
  if redis.call('HGET', KEYS[i], 'proposal') == ARGV[1] then
    redis.call('DEL', KEYS[i])
  end
end
return 1

-- Draws tokens from one caller's bucket for a replica: some to use at once, some to hold for a moment.
--
-- What is held may be used at any time until its end, so it counts as if it lay in the bucket until then, and as if it
-- was used at its end: held or not, there are never more tokens than the burst. So leases add nothing to what can be
-- asked in any span of time. A replica holds at most a quarter of what there is: others find some too.
--
-- KEYS  1 the bucket
-- ARGV  1 tokens a second   2 burst   3 replica   4 wanted at once   5 wanted to hold   6 held from before
--       7 given back   8 microseconds that tokens may be held
-- Returns the tokens granted, and the microseconds until there is another one (0: there is).

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local rate, burst, kept = tonumber(ARGV[1]) / 1000000, tonumber(ARGV[2]), tonumber(ARGV[6])
local tokens, at = burst, now
local others, own, ended, last, back = 0, 0, 0, 0, 0
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local name, value = fields[i], fields[i + 1]
  if name == 'tokens' then
    tokens = tonumber(value)
  elseif name == 'at' then
    at = tonumber(value)
  else
    local count, ends = string.match(value, '^(%d+) (%d+)$')
    count, ends = tonumber(count), tonumber(ends)
    if name == ARGV[3] then
      back = tonumber(ARGV[7]) -- once others have drawn on its room, it is not taken back
    end
    if ends <= now then
      ended, last = ended + count, math.max(last, ends)
      redis.call('HDEL', KEYS[1], name)
    elseif name == ARGV[3] then
      own = count
    else
      others = others + count
    end
  end
end

ended = math.max(ended - (now - last) * rate, 0)
tokens = math.min(tokens + math.max(now - at, 0) * rate, burst - others - own - ended) + back
tokens = math.max(math.min(tokens, burst - others - kept), 0)
-- What waited just as long as it was told has its token, whatever the last bit of a fraction says.
local used = math.min(tonumber(ARGV[4]), math.floor(tokens + 1e-6))
local more = math.max(math.min(tonumber(ARGV[5]), math.floor((tokens - used) / 4)), 0)
local keeps = kept + more
tokens = tokens - used - more

redis.call('HSET', KEYS[1], 'tokens', string.format('%.9f', tokens), 'at', string.format('%.0f', now))
if keeps > 0 then
  redis.call('HSET', KEYS[1], ARGV[3], string.format('%d %.0f', keeps, now + tonumber(ARGV[8])))
else
  redis.call('HDEL', KEYS[1], ARGV[3])
end
-- A bucket that is full and of which nobody holds anything is the same as none.
local full = math.min((burst - tokens) / rate + tonumber(ARGV[8]), 1e15)
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(full / 1000)))
return {used + more, tokens < 1 and math.ceil((1 - tokens) / rate) or 0}

-- Puts a proposal before one parent app, once: whoever comes second finds that it was done.
--
-- KEYS  1 the mark that it was done   2 the stream
-- ARGV  1 seconds that the mark lasts   2 the longest that the stream gets   3… names and values of the entry
-- Returns 1, or 0 when it was done before.

if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[1]) then
  return 0
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', unpack(ARGV, 3))
return 1

-- archive_mark: one field of a channel's record, set by compare-and-set, in the epoch that it was read in.
--
-- KEYS[1]  the channel's meta hash
-- ARGV[1]  epoch     ARGV[2]  the field     ARGV[3]  its value as it was read, "" for none     ARGV[4]  the new value
--
-- Out of memory, Redis refuses HSET, but no more once a script has written: an HDEL of nothing counts. Without it the keeper could
-- not set the mark, hence not trim, and a Redis that is full would stay full.
--
-- Reply: 1 if it was set, or is so already; 0 if epoch or value are others.
local known = redis.call('HMGET', KEYS[1], 'epoch', ARGV[2])
if known[1] ~= ARGV[1] then return 0 end
if known[2] == ARGV[4] then return 1 end
if (known[2] or '') ~= ARGV[3] then return 0 end
redis.call('HDEL', KEYS[1], '')
redis.call('HSET', KEYS[1], ARGV[2], ARGV[4])
return 1

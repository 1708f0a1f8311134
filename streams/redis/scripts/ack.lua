-- ack: work is done, if the one who says so still has the partition.
--
-- KEYS[1]  the partition's lease hash      KEYS[2]  its work stream
-- ARGV[1]  group      ARGV[2]  fencing token of the lease      ARGV[3+]  work ids
--
-- Reply: how many were acknowledged; -1 when the token was overtaken: nothing was done.
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[2] then return -1 end
return redis.call('XACK', KEYS[2], ARGV[1], unpack(ARGV, 3))

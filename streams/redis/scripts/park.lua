-- park: give up a piece of work and keep it with the reason. In one step: it is never in both places or in none.
--
-- KEYS[1]  the partition's lease hash      KEYS[2]  its work stream      KEYS[3]  its parking stream
-- ARGV[1]  group      ARGV[2]  fencing token of the lease      ARGV[3]  work id
-- ARGV[4]  channel path      ARGV[5]  event id      ARGV[6]  type      ARGV[7]  reason      ARGV[8]  attempts made
--
-- Reply: the id in the parking stream; nil when the token was overtaken; "" when somebody else had done with it.
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[2] then return false end
if redis.call('XACK', KEYS[2], ARGV[1], ARGV[3]) == 0 then return '' end
return redis.call('XADD', KEYS[3], '*', 'group', ARGV[1], 'channel', ARGV[4], 'event', ARGV[5], 'type', ARGV[6],
  'reason', ARGV[7], 'attempts', ARGV[8])

-- put_back: parked work becomes work again, for the group that gave it up. In one step.
--
-- KEYS[1]  the partition's parking stream      KEYS[2]  its work stream
-- ARGV[1]  id in the parking stream
--
-- Reply: the new work id; "" when nothing is parked under that id.
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not found then return '' end
local fields = {}
for at = 1, #found[2], 2 do fields[found[2][at]] = found[2][at + 1] end
redis.call('XDEL', KEYS[1], ARGV[1])
return redis.call('XADD', KEYS[2], '*', 'channel', fields.channel, 'event', fields.event, 'type', fields.type,
  'only', fields.group)

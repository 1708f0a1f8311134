-- drop_consumers: forget the consumers of a group that have no work. In one step: none gets work between the look and its end, and
-- one that reads later is made again by its read.
--
-- KEYS[1]  the partition's work stream
-- ARGV[1]  group      ARGV[2]  the consumer that stays
--
-- Reply: how many went.
local rows = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if rows.err then return 0 end
local count = 0
for _, raw in ipairs(rows) do
  local consumer = {}
  for at = 1, #raw, 2 do consumer[raw[at]] = raw[at + 1] end
  if consumer['pending'] == 0 and consumer['name'] ~= ARGV[2] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer['name'])
    count = count + 1
  end
end
return count

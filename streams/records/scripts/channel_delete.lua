-- channel_delete: end a channel's life in one step. Its events wait under another key until they are archived; a mark stays.
--
-- KEYS[1]  bell of the partition     KEYS[2]  the channel's events stream     KEYS[3]  its meta hash
-- KEYS[4]  the stream of a deleted channel     KEYS[5]  the meta hash of a deleted channel
-- KEYS[6]  the directory of the channels of its tenant and kind
-- then the keys beside the log that go at once, then the records of uploads that are not ready
-- ARGV[1]  the epoch of the channel's next life     ARGV[2]  length of the bell, entries (approximate)
-- ARGV[3]  the channel's path     ARGV[4]  its name     ARGV[5]  who deletes it
-- ARGV[6]  number of these records     ARGV[7]  their life from now on, in seconds
--
-- The mark is the field `deleted` of the new meta hash: "<ms> <epoch> <seq> <by>" of the life that ended. A later write finds the
-- new epoch there, so no cursor, command id or archived event of the life before is taken for one of the new life.
-- RENAME comes first: a Redis that is out of memory refuses no more once a script has written.
--
-- Reply: 1 if the life was ended now, 0 if there is none, or if an earlier deletion is not finished.
if redis.call('EXISTS', KEYS[5]) == 1 then return 0 end
local known = redis.call('HMGET', KEYS[3], 'epoch', 'seq')
local is_ended = known[1] and known[2] ~= '0'
if is_ended then
  if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[4]) end
  redis.call('RENAME', KEYS[3], KEYS[5])
  local time = redis.call('TIME')
  local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  redis.call('HSET', KEYS[5], 'deleted', now_ms .. ' ' .. known[1] .. ' ' .. known[2] .. ' ' .. ARGV[5])
  redis.call('HSET', KEYS[3], 'epoch', ARGV[1], 'seq', '0', 'floor_id', '0', 'floor_seq', '0',
    'deleted', now_ms .. ' ' .. known[1] .. ' ' .. known[2] .. ' ' .. ARGV[5])
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'events', '', 'live', '', 'begun', ARGV[3] .. ' ' .. ARGV[1])
end
local records = #KEYS - tonumber(ARGV[6])
for at = 7, records do redis.call('DEL', KEYS[at]) end
for at = records + 1, #KEYS do
  local state = redis.call('HGET', KEYS[at], 'state')
  if state and state ~= 'ready' and state ~= 'failed' then
    redis.call('HSET', KEYS[at], 'state', 'failed')
    redis.call('EXPIRE', KEYS[at], ARGV[7])
  end
end
redis.call('ZREM', KEYS[6], ARGV[4])
return is_ended and 1 or 0

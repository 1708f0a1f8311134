-- look: what a cursor is held against, read in one moment.
--
-- KEYS[1]  the channel's events stream     KEYS[2]  its meta hash     KEYS[3]  its live lane     KEYS[4]  bell of the partition
-- KEYS[5]  the directory of the channels of its tenant and kind
-- ARGV[1]  epoch of a life that follows another     ARGV[2]  the cursor's id, or "" for none
-- ARGV[3]  length of the bell, entries (approximate)     ARGV[4]  the channel's path     ARGV[5]  its name
-- ARGV[6]  life of this log
--
-- It writes only where a channel that was written has lost its stream or its meta hash. The epoch of a channel that nobody wrote
-- follows from the log's life and the channel's path, and is stored by the first append (append.lua): following a channel keeps
-- nothing in Redis.
--
-- Reply: epoch, head id, head seq, floor id, floor seq, prev id, prev seq, next id, next seq, newest id of the live lane.
--   prev: the newest entry at or before the cursor; next: the oldest after it; "" where there is none.
local stream, meta = KEYS[1], KEYS[2]
local known = redis.call('HMGET', meta, 'epoch', 'seq', 'floor_id', 'floor_seq')
local epoch, seq, floor_id, floor_seq = known[1], known[2] or '0', known[3] or '0', known[4] or '0'
local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]

-- A stream that was trimmed to nothing, by whomever, is still there and knows its last ID: that is the floor then.
if epoch and not last and seq ~= floor_seq and redis.call('EXISTS', stream) == 1 then
  local info = redis.call('XINFO', 'STREAM', stream)
  for at = 1, #info, 2 do
    if info[at] == 'last-generated-id' then floor_id, floor_seq = info[at + 1], seq end
  end
end

local is_unwritten = not epoch and not last and not redis.call('ZSCORE', KEYS[5], ARGV[5])
if is_unwritten then epoch = string.sub(redis.sha1hex(ARGV[6] .. ' ' .. ARGV[4]), 1, 16) end

-- A meta hash without its stream (it was deleted), or a stream without meta, is another life of the log.
if not epoch or (not last and seq ~= floor_seq) then
  epoch, seq, floor_id, floor_seq = ARGV[1], '0', '0', '0'
  redis.call('DEL', meta)
  if last then
    local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    seq, floor_seq = last[2][2], tostring(tonumber(first[2][2]) - 1)
    redis.call('HSET', meta, 'floor_id', floor_id, 'floor_seq', floor_seq)
  end
  redis.call('HSET', meta, 'epoch', epoch, 'seq', seq)
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[3], '*', 'events', '', 'live', '', 'begun', ARGV[4] .. ' ' .. epoch)
end

local head_id, head_seq = floor_id, floor_seq
if last then head_id, head_seq = last[1], last[2][2] end
local newest_live = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
local prev, following
if ARGV[2] ~= '' then
  prev = redis.call('XREVRANGE', stream, ARGV[2], '-', 'COUNT', 1)[1]
  following = redis.call('XRANGE', stream, '(' .. ARGV[2], '+', 'COUNT', 1)[1]
end
return {
  epoch, head_id, head_seq, floor_id, floor_seq,
  prev and prev[1] or '', prev and prev[2][2] or '', following and following[1] or '', following and following[2][2] or '',
  newest_live and newest_live[1] or '0',
}

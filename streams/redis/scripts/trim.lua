-- trim: drop the oldest events and move the floor, in one step: a reader never sees one without the other.
--
-- KEYS[1]  the channel's events stream          KEYS[2]  its meta hash
-- ARGV[1]  the newest id to drop (exact; entries up to and with it go)
-- ARGV[2]  the channel's epoch, or nothing. With it, only archived events are dropped: those up to the mark in the field `archive`,
--   which reads "<number> <removed id> <removed seq> <archived id> <archived seq>"
--
-- Reply: number of entries dropped, floor id, floor seq.
local stream, meta = KEYS[1], KEYS[2]
local newest_dropped
if redis.call('XRANGE', stream, '-', ARGV[1], 'COUNT', 1)[1] then -- without one, XREVRANGE would walk through all entries
  newest_dropped = redis.call('XREVRANGE', stream, ARGV[1], '-', 'COUNT', 1)[1]
end
if not newest_dropped then
  return {0, redis.call('HGET', meta, 'floor_id') or '0', redis.call('HGET', meta, 'floor_seq') or '0'}
end
if ARGV[2] then
  local known = redis.call('HMGET', meta, 'epoch', 'archive', 'floor_id', 'floor_seq')
  local archived = tonumber(string.match(known[2] or '', ' (%d+)$') or '0')
  if known[1] ~= ARGV[2] or tonumber(newest_dropped[2][2]) > archived then
    return {0, known[3] or '0', known[4] or '0'}
  end
end
local oldest_kept = redis.call('XRANGE', stream, '(' .. newest_dropped[1], '+', 'COUNT', 1)[1]
local dropped
if oldest_kept then
  dropped = redis.call('XTRIM', stream, 'MINID', oldest_kept[1])
else
  dropped = redis.call('XTRIM', stream, 'MAXLEN', 0)
end
redis.call('HSET', meta, 'floor_id', newest_dropped[1], 'floor_seq', newest_dropped[2][2])
return {dropped, newest_dropped[1], newest_dropped[2][2]}

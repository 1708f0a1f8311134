-- upload_release: an upload is over; its slot is free again, and its bytes too unless a file came of it.
--
-- KEYS[1..3]  as in upload_reserve.lua
-- ARGV[1]  user   ARGV[2]  slot   ARGV[3]  "1" when the file stays
--
-- Reply: the bytes that are free again, 0 for none. Atomic, and doing it again changes nothing.

redis.call('ZREM', KEYS[1], ARGV[2])
if ARGV[3] ~= '1' then
  local field = ARGV[1] .. ' ' .. ARGV[2]
  local size = redis.call('HGET', KEYS[2], field)
  if size then
    redis.call('HDEL', KEYS[2], field)
    redis.call('DECRBY', KEYS[3], size)
    return tonumber(size)
  end
end
return 0

-- upload_list: put, change or drop an upload in its channel's list of open uploads.
--
-- KEYS[1]  the list (hash: upload id → what the snapshot shows of it, JSON)
-- ARGV[1]  "put", "change" or "drop"   ARGV[2]  upload id   ARGV[3]  JSON   ARGV[4]  life of the list from now, seconds
--
-- Reply: nothing. Atomic. "change" of one that is not listed does nothing: progress told late brings no ended upload back.

if ARGV[1] == 'drop' then
  redis.call('HDEL', KEYS[1], ARGV[2])
elseif ARGV[1] == 'put' or redis.call('HEXISTS', KEYS[1], ARGV[2]) == 1 then
  redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end

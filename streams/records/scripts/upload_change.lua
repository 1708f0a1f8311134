-- upload_change: compare-and-set on the record of an upload.
--
-- KEYS[1]  the record (hash)
-- ARGV[1]  field to look at   ARGV[2]  the values it may have, comma-separated; "" is absent
-- ARGV[3]  life of the record from now in seconds, 0 leaves it   ARGV[4+] field, value, … to set
--
-- Reply: false when it was changed, else what the field holds ("" for nothing). Atomic. A record that is not there stays so.

local present = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if redis.call('EXISTS', KEYS[1]) == 0 then return '' end
if not string.find(',' .. ARGV[2] .. ',', ',' .. present .. ',', 1, true) then return present end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
if tonumber(ARGV[3]) > 0 then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
return false

-- upload_open: write the record of an upload, once.
--
-- KEYS[1]  the record (hash)          KEYS[2]  the uploader's resume key (string), in the same partition
-- ARGV[1]  upload id   ARGV[2]  life of the resume key in seconds, 0 when there is none
-- ARGV[3+] field, value, … of the record
--
-- Reply: 1 written, 0 it was there (nothing is changed). Atomic: a record is whole or not there.

if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
if tonumber(ARGV[2]) > 0 then redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2]) end
return 1

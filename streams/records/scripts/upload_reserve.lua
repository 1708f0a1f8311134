-- upload_reserve: room for one more upload of a user, within the user's count and the tenant's bytes.
--
-- KEYS[1]  open uploads of the user (sorted set: slot → when it lapses)
-- KEYS[2]  sizes of the tenant's uploads and files (hash: user and slot → bytes)   KEYS[3]  their sum (string)
-- ARGV[1]  user   ARGV[2]  slot   ARGV[3]  now, ms   ARGV[4]  lapses at, ms
-- ARGV[5]  open uploads a user may have   ARGV[6]  size, bytes   ARGV[7]  bytes a tenant may have, 0 for any
--
-- Reply: {answer, change}. The answer is "new", "held" (it was reserved before, and is not counted twice), "open" (too many) or
-- "bytes" (too much); the change is that of the sum. Atomic. What lapsed was lost with a node before its record was written; its bytes are given back here.

local change = 0

local function give_back(slot)
  local field = ARGV[1] .. ' ' .. slot
  local size = redis.call('HGET', KEYS[2], field)
  if size then
    redis.call('HDEL', KEYS[2], field)
    redis.call('DECRBY', KEYS[3], size)
    change = change - tonumber(size)
  end
end

for _, slot in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], 0, ARGV[3])) do
  give_back(slot)
  redis.call('ZREM', KEYS[1], slot)
end
local field = ARGV[1] .. ' ' .. ARGV[2]
if redis.call('HEXISTS', KEYS[2], field) == 1 then return {'held', change} end
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[5]) then return {'open', change} end
local total = tonumber(redis.call('GET', KEYS[3]) or '0')
if tonumber(ARGV[7]) > 0 and total + tonumber(ARGV[6]) > tonumber(ARGV[7]) then return {'bytes', change} end
redis.call('ZADD', KEYS[1], ARGV[4], ARGV[2])
redis.call('HSET', KEYS[2], field, ARGV[6])
redis.call('INCRBY', KEYS[3], ARGV[6])
return {'new', change + tonumber(ARGV[6])}

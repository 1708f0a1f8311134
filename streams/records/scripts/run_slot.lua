-- run_slot: room for one more run of a user and a tenant.
--
-- KEYS[1]  runs of the tenant (sorted set: user and slot → when it lapses, ms)   KEYS[2]  runs of the user (likewise, by slot)
-- ARGV[1]  user   ARGV[2]  slot   ARGV[3]  life of a slot, ms   ARGV[4]  runs a user may have   ARGV[5]  runs a tenant may have
-- (0: any number)
--
-- Reply: "taken" (also when it was held before), "user" or "tenant" (which has as many as it may). Atomic. Time is Redis's own.

local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local field = ARGV[1] .. ' ' .. ARGV[2]
for _, key in ipairs(KEYS) do redis.call('ZREMRANGEBYSCORE', key, '-inf', now_ms) end
if not redis.call('ZSCORE', KEYS[2], ARGV[2]) then
  if tonumber(ARGV[4]) > 0 and redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then return 'user' end
  if tonumber(ARGV[5]) > 0 and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[5]) then return 'tenant' end
end
redis.call('ZADD', KEYS[1], now_ms + ARGV[3], field)
redis.call('ZADD', KEYS[2], now_ms + ARGV[3], ARGV[2])
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[3]) end
return 'taken'

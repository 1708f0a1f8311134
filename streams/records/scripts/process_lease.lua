-- process_lease: a process says that it lives, and learns which others no longer do. Atomic; the time is Redis's own.
--
-- KEYS[1]  sorted set of processes by the millisecond their lease ends
-- ARGV[1]  process     ARGV[2]  life of the lease, milliseconds
-- ARGV[3]  "told" to be told of the dead, "drop" to remove them, "" for neither
--
-- A lease that would last longer than its life, because the clock was set back, is cut to its life: who lives renews it.
-- Reply: 1 when the process's lease had not been removed meanwhile, else 0; the number of living processes; how many of them have a
-- name before this one's; then the dead.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local ends_ms = string.format('%.0f', now_ms + ARGV[2])
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[1], '') -- out of memory, Redis refuses ZADD, but no more once a script has written
redis.call('ZADD', KEYS[1], ends_ms, ARGV[1])
for _, process in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ends_ms, '+inf')) do
  redis.call('ZADD', KEYS[1], ends_ms, process)
end
if ARGV[3] == 'drop' then redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms) end
local living, before = 0, 0
for _, process in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now_ms), '+inf')) do
  living = living + 1
  if process < ARGV[1] then before = before + 1 end
end
local reply = {lease and 1 or 0, living, before}
if ARGV[3] == 'told' then
  for _, process in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms)) do reply[#reply + 1] = process end
end
return reply

-- node_lease: a node says that it lives, and learns which others no longer do. Atomic; the time is Redis's own.
--
-- KEYS[1]  sorted set of nodes by the millisecond their lease ends
-- ARGV[1]  node     ARGV[2]  life of the lease, milliseconds     ARGV[3]  "1" to be told of dead nodes, else "0"
--
-- Reply: 1 when the node's lease had not ended meanwhile, else 0; then the dead nodes.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now_ms + ARGV[2], ARGV[1])
local reply = {lease and 1 or 0}
if ARGV[3] == '1' then
  for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms)) do reply[#reply + 1] = node end
end
return reply

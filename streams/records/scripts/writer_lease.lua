-- writer_lease: the lease of an operator's command that writes, unless one that excludes it holds another.
--
-- KEYS[1]  sorted set: command → the end of its lease, ms since 1970. A command is "<scope> <alone|beside> …".
-- ARGV[1]  the command     ARGV[2]  life, ms     ARGV[3]  1 if it renews its lease
--
-- Two commands exclude each other if one of them is alone and they have a scope in common: a tenant, or * for all.
-- Reply: "" if the command has the lease now; otherwise the one that excludes it, or "-" if a lease to be renewed has ended: one
-- that excludes it may have begun and ended meanwhile.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local ends_ms = string.format('%.0f', now_ms + ARGV[2])
local scope, how = string.match(ARGV[1], '^(%S+) (%S+)')
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now_ms))
for _, other in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local its_scope, its_how = string.match(other, '^(%S+) (%S+)')
  local is_common = scope == its_scope or scope == '*' or its_scope == '*'
  if other ~= ARGV[1] and is_common and (how == 'alone' or its_how == 'alone') then return other end
end
if ARGV[3] == '1' and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return '-' end
redis.call('ZREM', KEYS[1], '') -- out of memory, Redis refuses ZADD, but no more once a script has written
redis.call('ZADD', KEYS[1], ends_ms, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return ''

-- lease: one holder at a time, for a while. Time is Redis's own, so no two clocks have to agree.
--
-- KEYS[1]  the lease: hash of holder, until (ms since 1970), life (ms), token, reason (for which it was given up)
-- ARGV[1]  acquire | renew | release | look       ARGV[2]  holder       ARGV[3]  life, ms
-- ARGV[4]  "1" when the key may go once the life is over (then tokens begin again at 1), "" when its token must only rise
-- ARGV[5]  of a release: the reason, kept for ten minutes, or until somebody takes the lease; "" when there is none
--
-- Reply: the token, 1 or more, if the holder has the lease now; 0 if not. After a release: 0. A look: 1 if somebody has it.
-- Out of memory, Redis refuses HSET, but no more once a script has written: an HDEL of nothing counts. A full Redis keeps its
-- leases, since the keeper that makes room works under one.
-- The token rises with each new holder: whoever passes an older one has been overtaken.
-- A lease that would last longer than its life, because the clock was set back, is cut to its life by whoever comes next: a
-- holder that lives renews it by then.
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local known = redis.call('HMGET', KEYS[1], 'holder', 'until', 'token', 'life')
local holder, ends, token = known[1] or '', tonumber(known[2] or '0'), tonumber(known[3] or '0')
local life = tonumber(known[4] or '0')
local is_mine = holder == ARGV[2]
redis.call('HDEL', KEYS[1], '')

if ARGV[1] == 'release' then
  if is_mine then
    if ARGV[5] ~= '' then
      redis.call('HSET', KEYS[1], 'holder', '', 'until', 0, 'reason', ARGV[5])
      redis.call('PEXPIRE', KEYS[1], 600000)
    elseif ARGV[4] == '1' then redis.call('DEL', KEYS[1])
    else 
      redis.call('HSET', KEYS[1], 'holder', '', 'until', 0)
    end
  end
  return 0
end
if holder ~= '' and life > 0 and ends > now_ms + life then
  ends = now_ms + life
  redis.call('HSET', KEYS[1], 'until', string.format('%.0f', ends))
  if ARGV[4] == '1' then redis.call('PEXPIRE', KEYS[1], life) end
end
if ARGV[1] == 'look' then return holder ~= '' and ends > now_ms and 1 or 0 end
if not is_mine and (ARGV[1] == 'renew' or (holder ~= '' and ends > now_ms)) then return 0 end
if not is_mine then token = token + 1 end
redis.call('HSET', KEYS[1], 'holder', ARGV[2], 'until', string.format('%.0f', now_ms + ARGV[3]), 'token', token, 'life', ARGV[3])
if not is_mine then redis.call('HDEL', KEYS[1], 'reason') end
if ARGV[4] == '1' then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return token

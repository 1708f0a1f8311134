-- work_trim: drop the work that every group has done with. Exact, and in one step with looking at the groups.
--
-- KEYS[1]  the partition's work stream
--
-- Reply: how many entries went. Nothing goes while there is no group.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end

local function before(a, b)
  local a_ms, a_n = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_n = string.match(b, '^(%d+)-(%d+)$')
  a_ms, a_n, b_ms, b_n = tonumber(a_ms), tonumber(a_n), tonumber(b_ms), tonumber(b_n)
  return a_ms < b_ms or (a_ms == b_ms and a_n < b_n)
end

local oldest
for _, raw in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for at = 1, #raw, 2 do group[raw[at]] = raw[at + 1] end
  local kept = group['last-delivered-id']
  if group['pending'] > 0 then kept = redis.call('XPENDING', KEYS[1], group['name'])[2] end
  if not oldest or before(kept, oldest) then oldest = kept end
end
if not oldest then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', oldest)

-- work_trim: drop the work that every group has done with. Exact, and in one step with looking at the groups.
--
-- KEYS[1]  the partition's work stream
-- ARGV[1]  the beginning of the names of groups that may go     ARGV[2]  ms that work may wait for them before they do
--
-- Reply: how many entries went. Nothing goes while there is no group.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end

local function before(a, b)
  local a_ms, a_n = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_n = string.match(b, '^(%d+)-(%d+)$')
  a_ms, a_n, b_ms, b_n = tonumber(a_ms), tonumber(a_n), tonumber(b_ms), tonumber(b_n)
  return a_ms < b_ms or (a_ms == b_ms and a_n < b_n)
end

local now = redis.call('TIME')
local idle_since = string.format('%.0f-0', now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(ARGV[2]))

-- Whoever comes back to an abandoned group makes it anew, and begins with all work there is.
local function is_abandoned(group, pending_from)
  if string.sub(group['name'], 1, #ARGV[1]) ~= ARGV[1] then return false end
  local waits = pending_from
  if not waits then
    local unread = redis.call('XRANGE', KEYS[1], '(' .. group['last-delivered-id'], '+', 'COUNT', 1)[1]
    waits = unread and unread[1]
  end
  return waits and before(waits, idle_since)
end

local oldest
for _, raw in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for at = 1, #raw, 2 do group[raw[at]] = raw[at + 1] end
  local pending_from = group['pending'] > 0 and redis.call('XPENDING', KEYS[1], group['name'])[2]
  if is_abandoned(group, pending_from) then
    redis.call('XGROUP', 'DESTROY', KEYS[1], group['name'])
  else
    local kept = pending_from or group['last-delivered-id']
    if not oldest or before(kept, oldest) then oldest = kept end
  end
end
if not oldest then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', oldest)

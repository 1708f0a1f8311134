-- run_turn: one run of a channel at a time; the others wait in the order of the events that began them.
--
-- KEYS[1]  the channel's home hash: active (run id), waiting:<event id> (run id) for each that waits
-- ARGV[1]  event id of a run that wants its turn, or ""      ARGV[2]  its run id
-- ARGV[3]  run id of one that has ended and leaves, or ""
--
-- Reply: the run whose turn it is now, "" when there is none. Asking again changes nothing.
local function before(a, b)
  local a_ms, a_n = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_n = string.match(b, '^(%d+)-(%d+)$')
  a_ms, a_n, b_ms, b_n = tonumber(a_ms), tonumber(a_n), tonumber(b_ms), tonumber(b_n)
  return a_ms < b_ms or (a_ms == b_ms and a_n < b_n)
end

local home = KEYS[1]
local active = redis.call('HGET', home, 'active') or ''
if ARGV[1] ~= '' and active ~= ARGV[2] then redis.call('HSET', home, 'waiting:' .. ARGV[1], ARGV[2]) end
if ARGV[3] ~= '' and active == ARGV[3] then
  active = ''
  redis.call('HSET', home, 'active', '')
end
if active ~= '' and ARGV[3] == '' then return active end

local all, first, run = redis.call('HGETALL', home), nil, ''
for at = 1, #all, 2 do
  local id = string.match(all[at], '^waiting:(.+)$')
  if id and all[at + 1] == ARGV[3] then
    redis.call('HDEL', home, all[at])
  elseif id and (not first or before(id, first)) then
    first, run = id, all[at + 1]
  end
end
if active ~= '' then return active end
if first then
  redis.call('HDEL', home, 'waiting:' .. first)
  redis.call('HSET', home, 'active', run)
end
return run

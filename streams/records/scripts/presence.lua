-- presence: devices that come and go, and how their people say they are, in the channels of one partition. Atomic.
--
-- KEYS[1]  bell stream of the partition
-- KEYS[2]  hash of the node: "<device> <channel path>" -> user; what is undone when the node dies
-- KEYS[3]  set of the nodes that have devices in the partition
-- KEYS[4]  sorted set of the statuses that have an end: "<channel path> <user>" by that end, in ms since 1970
-- KEYS[5]  sorted set of the channels whose presence somebody follows: path by the end of that, in ms since 1970
-- then 4 per operation: hash of people ("<devices> <status>" by user) · hash of devices ("<user> <client>" by device; in documents
--   also the number of devices by "<user> <client>") · the channel's live lane · hash of the statuses that a team's members gave
-- ARGV[1]  length of a live lane, entries (approximate)     ARGV[2]  length of the bell     ARGV[3]  bytes of "hub:{pNN}:"
-- ARGV[4]  life of a live lane without entries, seconds     ARGV[5]  life of a member's status without a device, seconds
-- ARGV[6]  the node
-- then 5 per operation: operation · device · user · value · channel path
--   "join"    a device comes; the value is its client        "leave"   a device goes
--   "status"  how the person is here; the value is that
--   "member"  how a team's member is, said on a device; the value is "<status> <end in ms since 1970, or 0> <JSON of the rest>"
--   "visit"   the same, said without a device
--   "over"    the end of a member's status has come; nothing where it has not
--
-- A join of a known device and a leave of an unknown one change nothing, and a status is told again, so operations may be
-- repeated. A status that is the present one is told as well: who says "active" after joining has said something.
-- A member's status goes with the last device, a cursor with the last device of its client. Who is invisible is told as gone.
-- When a status is over, the member is told as online again, and one who was invisible as joined.
-- When the last device of a channel leaves, nobody is there to be told, and the live lane goes with it.
-- Presence is told where somebody follows it, and where the live lane is there anyway: a lane would cost 4 KB for each
-- channel that is only subscribed to.
-- Reply: number of live entries written.
local rung, paths, written = {}, {}, 0
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function write(live, type, user, data)
  redis.call('XADD', live, 'MAXLEN', '~', ARGV[1], '*', 'type', type, 'v', '1',
    'actor', '{"kind":"user","id":"' .. user .. '"}', 'data', data, 'meta', '{}')
  written = written + 1
  if not rung[live] then
    rung[live] = true
    redis.call('EXPIRE', live, ARGV[4])
    paths[#paths + 1] = string.sub(live, tonumber(ARGV[3]) + 1, -6)
  end
end

local is_told = {}

local function wants_presence(live)
  if is_told[live] == nil then
    local ends = redis.call('ZSCORE', KEYS[5], string.sub(live, tonumber(ARGV[3]) + 1, -6))
    is_told[live] = (ends and tonumber(ends) > now_ms) or redis.call('EXISTS', live) == 1
  end
  return is_told[live]
end

local function tell(live, user, status, devices)
  if not wants_presence(live) then return end
  write(live, 'channel.presence', user, '{"user":"' .. user .. '","status":"' .. status .. '","devices":' .. devices .. '}')
end

local function person(people, user)
  local known = redis.call('HGET', people, user)
  if not known then return 0, 'active' end
  local devices, status = string.match(known, '^(%d+) (.*)$')
  return tonumber(devices), status
end

-- A member's status, its rest, and whether it hides the person; nil where nothing was said, or it is over.
local function member(statuses, user)
  local status, ends, rest = string.match(redis.call('HGET', statuses, user) or '', '^(%S+) (%d+) (.*)$')
  if not status or (ends ~= '0' and tonumber(ends) <= now_ms) then return nil, nil, false end
  return status, rest, status == 'invisible'
end

local function tell_member(live, user, status, rest, devices)
  if status == 'invisible' then status, devices, rest = 'offline', 0, '{}' end -- its end would give it away
  local tail = rest == '{}' and '}' or ',' .. string.sub(rest, 2)
  write(live, 'team.presence.update', user,
    '{"user":"' .. user .. '","devices":' .. devices .. ',"status":"' .. status .. '"' .. tail)
end

-- Everybody who is not invisible is told that a person has so many devices now.
local function tell_devices(at, user, status, devices)
  local said, rest, is_hidden = member(KEYS[at + 3], user)
  if is_hidden then return end
  tell(KEYS[at + 2], user, status, devices)
  if said then tell_member(KEYS[at + 2], user, said, rest, devices) end
end

local function join(at, device, user, client, path)
  local people, devices_key = KEYS[at], KEYS[at + 1]
  local devices, present = person(people, user)
  redis.call('HSET', KEYS[2], device .. ' ' .. path, user)
  if redis.call('HSETNX', devices_key, device, user .. ' ' .. client) == 0 then return end
  redis.call('HSET', people, user, (devices + 1) .. ' ' .. present)
  if string.find(path, '^[^:]+:document:') then redis.call('HINCRBY', devices_key, user .. ' ' .. client, 1) end
  tell_devices(at, user, devices == 0 and 'joined' or present, devices + 1)
end

-- The cursor of a client that is here no more.
local function end_cursor(at, owner)
  if redis.call('HINCRBY', KEYS[at + 1], owner, -1) > 0 then return end
  redis.call('HDEL', KEYS[at + 1], owner)
  local user, client = string.match(owner, '^(%S+) (.*)$')
  write(KEYS[at + 2], 'document.cursor', user,
    '{"selection":null,"user":"' .. user .. '","client":"' .. client .. '"}')
end

-- The status of a member is over: everybody is told who is there, and how.
local function status_ended(at, user, path, was_hidden)
  local live, statuses = KEYS[at + 2], KEYS[at + 3]
  local devices, present = person(KEYS[at], user)
  redis.call('ZREM', KEYS[4], path .. ' ' .. user)
  if devices > 0 then
    redis.call('HSET', statuses, user, 'online 0 {}')
  else
    redis.call('HDEL', statuses, user)
  end
  if redis.call('EXISTS', KEYS[at + 1]) == 0 or (was_hidden and devices == 0) then return end
  if was_hidden then tell(live, user, 'joined', devices) end
  if was_hidden and present ~= 'active' then tell(live, user, present, devices) end
  tell_member(live, user, devices > 0 and 'online' or 'offline', '{}', devices)
end

local function over(at, user, path)
  local status, ends = string.match(redis.call('HGET', KEYS[at + 3], user) or '', '^(%S+) (%d+) ')
  if not status then
    redis.call('ZREM', KEYS[4], path .. ' ' .. user)
  elseif ends ~= '0' and tonumber(ends) <= now_ms then
    status_ended(at, user, path, status == 'invisible')
  end
end

local function leave(at, device, user, path)
  local people, devices_key, statuses = KEYS[at], KEYS[at + 1], KEYS[at + 3]
  local devices, present = person(people, user)
  redis.call('HDEL', KEYS[2], device .. ' ' .. path)
  local owner = redis.call('HGET', devices_key, device)
  if not owner then return end
  redis.call('HDEL', devices_key, device)
  if string.find(path, '^[^:]+:document:') then end_cursor(at, owner) end
  if devices > 1 then
    redis.call('HSET', people, user, (devices - 1) .. ' ' .. present)
    tell_devices(at, user, present, devices - 1)
    return
  end
  local said, _, is_hidden = member(statuses, user)
  redis.call('HDEL', people, user)
  redis.call('HDEL', statuses, user)
  redis.call('ZREM', KEYS[4], path .. ' ' .. user)
  if redis.call('EXISTS', devices_key) == 0 then
    redis.call('DEL', KEYS[at + 2])
    redis.call('EXPIRE', statuses, ARGV[5])
  elseif not is_hidden then
    tell(KEYS[at + 2], user, 'left', 0)
    if said then tell_member(KEYS[at + 2], user, 'offline', '{}', 0) end
  end
end

local function status(at, device, user, value)
  local devices = person(KEYS[at], user)
  if devices == 0 then return end
  redis.call('HSET', KEYS[at], user, devices .. ' ' .. value)
  local _, _, is_hidden = member(KEYS[at + 3], user)
  if not is_hidden then tell(KEYS[at + 2], user, value, devices) end
end

local function set_member(at, user, value, path)
  local live, statuses = KEYS[at + 2], KEYS[at + 3]
  local devices, present = person(KEYS[at], user)
  local was, _, was_hidden = member(statuses, user)
  local ends = string.match(value, '^%S+ (%d+)')
  if ends ~= '0' and tonumber(ends) <= now_ms then
    if was or devices > 0 then status_ended(at, user, path, was_hidden) end
    return
  end
  redis.call('HSET', statuses, user, value)
  if ends == '0' then
    redis.call('ZREM', KEYS[4], path .. ' ' .. user)
  else
    redis.call('ZADD', KEYS[4], ends, path .. ' ' .. user)
  end
  local said, rest, is_hidden = member(statuses, user)
  if devices > 0 and is_hidden and not was_hidden then tell(live, user, 'left', 0) end
  if devices > 0 and was_hidden and not is_hidden then tell(live, user, 'joined', devices) end
  if devices > 0 and was_hidden and not is_hidden and present ~= 'active' then tell(live, user, present, devices) end
  if said then tell_member(live, user, said, rest, devices) end
  if said == 'offline' then
    redis.call('HDEL', statuses, user)
    redis.call('ZREM', KEYS[4], path .. ' ' .. user)
  end
end

local function visit(at, user, value, path)
  local people, statuses = KEYS[at], KEYS[at + 3]
  local held = redis.call('HGETALL', statuses)
  for n = 1, #held, 2 do
    if not member(statuses, held[n]) and redis.call('HEXISTS', people, held[n]) == 0 then redis.call('HDEL', statuses, held[n]) end
  end
  set_member(at, user, value, path)
  if redis.call('EXISTS', KEYS[at + 1]) == 0 then redis.call('EXPIRE', statuses, ARGV[5]) end
end

for number = 0, (#ARGV - 6) / 5 - 1 do
  local at, arg = 6 + number * 4, 7 + number * 5
  local operation, device, user, value, path = ARGV[arg], ARGV[arg + 1], ARGV[arg + 2], ARGV[arg + 3], ARGV[arg + 4]
  if operation == 'join' then
    join(at, device, user, value, path)
  elseif operation == 'leave' then
    leave(at, device, user, path)
  elseif operation == 'status' then
    status(at, device, user, value)
  elseif operation == 'visit' then
    visit(at, user, value, path)
  elseif operation == 'over' then
    over(at, user, path)
  elseif redis.call('HEXISTS', KEYS[at + 1], device) == 1 then
    redis.call('PERSIST', KEYS[at + 3])
    set_member(at, user, value, path)
  end
end
redis.call(redis.call('EXISTS', KEYS[2]) == 1 and 'SADD' or 'SREM', KEYS[3], ARGV[6])
if #paths > 0 then
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'events', '', 'live', table.concat(paths, ' '))
end
return written

-- presence: devices that come, go and change how their person is, in the channels of one partition. Atomic.
--
-- KEYS[1]  bell stream of the partition
-- KEYS[2]  hash of the node: "<device> <channel path>" -> user; what is undone when the node dies
-- then 3 per operation: hash of people ("<devices> <status>" by user) · hash of devices (user by device) · the channel's live lane
-- ARGV[1]  length of a live lane, entries (approximate)     ARGV[2]  length of the bell     ARGV[3]  bytes of "hub:{pNN}:"
-- ARGV[4]  life of a live lane without entries, seconds
-- then 5 per operation: "join" | "leave" | "status" · device · user · status · channel path
--
-- A join of a known device and a leave of an unknown one change nothing, and a status is told again, so operations may be
-- repeated. When the last device leaves, nobody is there to be told, and the live lane goes with it. A status that is the present one is told as well: who says "active" after joining has said something.
-- Reply: number of live entries written.
local rung, paths, written = {}, {}, 0

local function tell(at, user, status, devices)
  local live = KEYS[at + 2]
  redis.call('XADD', live, 'MAXLEN', '~', ARGV[1], '*', 'type', 'channel.presence', 'v', '1',
    'actor', '{"kind":"user","id":"' .. user .. '"}',
    'data', '{"user":"' .. user .. '","status":"' .. status .. '","devices":' .. devices .. '}', 'meta', '{}')
  written = written + 1
  if not rung[live] then
    rung[live] = true
    redis.call('EXPIRE', live, ARGV[4])
    paths[#paths + 1] = string.sub(live, tonumber(ARGV[3]) + 1, -6)
  end
end

local function person(people, user)
  local known = redis.call('HGET', people, user)
  if not known then return 0, 'active' end
  local devices, status = string.match(known, '^(%d+) (.*)$')
  return tonumber(devices), status
end

for number = 0, (#ARGV - 4) / 5 - 1 do
  local at, arg = 3 + number * 3, 5 + number * 5
  local people, devices_key = KEYS[at], KEYS[at + 1]
  local operation, device, user, status, path = ARGV[arg], ARGV[arg + 1], ARGV[arg + 2], ARGV[arg + 3], ARGV[arg + 4]
  local devices, present = person(people, user)
  if operation == 'join' then
    redis.call('HSET', KEYS[2], device .. ' ' .. path, user)
    if redis.call('HSETNX', devices_key, device, user) == 1 then
      redis.call('HSET', people, user, (devices + 1) .. ' ' .. present)
      tell(at, user, devices == 0 and 'joined' or present, devices + 1)
    end
  elseif operation == 'leave' then
    redis.call('HDEL', KEYS[2], device .. ' ' .. path)
    if redis.call('HDEL', devices_key, device) == 1 then
      if devices <= 1 then
        redis.call('HDEL', people, user)
        if redis.call('EXISTS', devices_key) == 1 then
          tell(at, user, 'left', 0)
        else
          redis.call('DEL', KEYS[at + 2])
        end
      else
        redis.call('HSET', people, user, (devices - 1) .. ' ' .. present)
        tell(at, user, present, devices - 1)
      end
    end
  elseif devices > 0 then
    redis.call('HSET', people, user, devices .. ' ' .. status)
    tell(at, user, status, devices)
  end
end
if #paths > 0 then
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'events', '', 'live', table.concat(paths, ' '))
end
return written

-- append: one group commit of one partition. Everything below is atomic.
--
-- KEYS[1]  bell stream of the partition
-- KEYS[2]  work stream of the partition
-- KEYS[3+] every other key the events name; ARGV refers to them by position
--
-- ARGV[1]  epoch of a life that follows another; the first life's is derived from ARGV[8], as look.lua derives it
-- ARGV[2]  entries one generation of an actor's command ids holds
-- ARGV[3]  life of an actor's command ids after the last, seconds
-- ARGV[4]  length of a live lane, entries (approximate)
-- ARGV[5]  length of the bell, entries (approximate)
-- ARGV[6]  length of the key prefix "hub:{pNN}:", bytes
-- ARGV[7]  label of the batch: the bell bears it, so that its sender knows what it has read back already
-- ARGV[8]  life of this log
-- ARGV[9]  life of a live lane without entries, seconds
-- ARGV[10] window in which a user's command ids are known, seconds
-- then 14 per event:
--   lane "E" (events) or "L" (live) · position of the lane's stream · position of the meta hash (events only)
--   position of the actor's idempotency hash, its older generation follows it (0: no look-up) · command id · body hash
--   type · v · actor · data · meta · "w" when a handler wants it
--   extra: "" or JSON {g: [{k, c: [[field, operator, value]], s: [[field, value]], i: [field], d: [field], r: [field], n, t}],
--     o: {...}}, see envelope.py. With n the new event's id is added to the key: same hash tag, a hash nobody had before
--   checksum of the entry (events only), see envelope.py
--
-- Reply, one string per event:
--   "A <id> <seq> <results>"   appended          "D <id> <seq> <results>"   a duplicate: the first answer
--   "N <id> <seq> <results>"   appended, and nobody had written the channel: it has keys now
--   "C"                        same id, other body
--   "F"                        the user's command ids are full, and all are younger than the window
--   "G <field> <present>"      a guard refused   "E <text>"                 Redis refused this entry
--
-- Order for each event: idempotency, then guards, then XADD, and only after XADD succeeded the seq, the guards' effects and the
-- command id are written: an entry that Redis refuses leaves no hole.
--
-- A full generation of command ids becomes the older one, which lives for the window and ends by itself. A user's never takes the
-- place of one that is still there: while both are full, commands are refused. What agents and the hub append is keyed by the
-- event it follows from and refused by their state when it comes late, so theirs turn over by their number alone.
--
-- At a channel's first event, and then at most once a minute, its name is put into the directory of its tenant and kind, and the
-- time into its meta hash. The directory's key follows from the stream's and has the same hash tag (`Keys.directory`).

local prefix_bytes = tonumber(ARGV[6])
local replies, seqs, moved, moved_live, idems, has_older, full = {}, {}, {}, {}, {}, {}, {}
local listed, newest, epochs = {}, {}, {}
local events_bell, live_bell, begun_bell = {}, {}, {}

-- The directory a channel is listed in, and its name there.
local function directory_of(meta)
  local tenant, kind, name = string.match(meta, '^([^:]+):([^:]+):(.+):meta$', prefix_bytes + 1)
  return string.sub(meta, 1, prefix_bytes) .. tenant .. ':channels:' .. kind, name
end

-- The first event of a range; entries that somebody added to the stream by hand are passed over.
local function event(command, stream, from, to)
  local found
  repeat
    found = redis.call(command, stream, from, to, 'COUNT', 1)[1]
    if found then from = '(' .. found[1] end
  until not found or (found[2][1] == 'seq' and found[2][12])
  return found
end

-- Begin a life of a channel: it has no epoch yet, or its meta hash and its stream do not belong together any more.
-- Returns the newest seq of what is there. The HSET is the first write: out of memory, Redis refuses it and nothing was done
-- (it stops refusing once a script has written, and a DEL would count).
local function begin_epoch(stream, meta, is_another)
  local seq, floor_seq, epoch, last = 0, 0, ARGV[1], event('XREVRANGE', stream, '+', '-')
  local path = string.sub(stream, prefix_bytes + 1)
  if last then
    local first = event('XRANGE', stream, '-', '+')
    seq, floor_seq = tonumber(last[2][2]), tonumber(first[2][2]) - 1
  elseif not is_another and not redis.call('ZSCORE', directory_of(meta)) then
    epoch = string.sub(redis.sha1hex(ARGV[8] .. ' ' .. path), 1, 16)
  end
  redis.call('HSET', meta, 'epoch', epoch, 'seq', seq, 'floor_id', '0', 'floor_seq', floor_seq)
  redis.call('HDEL', meta, 'covered', 'archive', 'erased', 'deleted') -- they are of the life before
  begun_bell[#begun_bell + 1] = path .. ' ' .. epoch
  epochs[meta] = epoch
  return seq
end

-- XADD with the next seq. A stream that is missing although its meta hash counts events has vanished: another life begins.
local function add(stream, meta, at)
  local seq = seqs[meta]
  if not seq then
    local known = redis.call('HMGET', meta, 'epoch', 'seq', 'listed')
    listed[meta], epochs[meta] = tonumber(known[3] or '0'), known[1]
    seq = known[1] and tonumber(known[2]) or begin_epoch(stream, meta, false)
  end
  local id = redis.pcall('XADD', stream, 'NOMKSTREAM', '*', 'seq', seq + 1,
    'type', ARGV[at + 6], 'v', ARGV[at + 7], 'actor', ARGV[at + 8], 'data', ARGV[at + 9], 'meta', ARGV[at + 10], 'sum', ARGV[at + 13])
  if not id then
    if seq > 0 then seq = begin_epoch(stream, meta, true) end
    id = redis.pcall('XADD', stream, '*', 'seq', seq + 1,
      'type', ARGV[at + 6], 'v', ARGV[at + 7], 'actor', ARGV[at + 8], 'data', ARGV[at + 9], 'meta', ARGV[at + 10], 'sum', ARGV[at + 13])
  end
  return id, seq + 1
end

local function id_order(id)
  local ms, number = string.match(id or '', '^(%d+)-(%d+)$')
  return tonumber(ms or '0'), tonumber(number or '0')
end

local holds = {
  eq = function(present, value) return (present or '') == value end,
  ne = function(present, value) return (present or '') ~= value end,
  free_or = function(present, value) return not present or present == value end,
  lt = function(present, value) return tonumber(present or '0') < tonumber(value) end,
  le = function(present, value) return tonumber(present or '0') <= tonumber(value) end,
  newer = function(present, value)
    local ms, number = id_order(value)
    local held_ms, held_number = id_order(present)
    return ms > held_ms or (ms == held_ms and number > held_number)
  end,
  ['in'] = function(present, value)
    return present and string.find(',' .. value .. ',', ',' .. present .. ',', 1, true) ~= nil
  end,
}

local function refusal(guards)
  for _, guard in ipairs(guards) do
    for _, check in ipairs(guard.c) do
      local present = redis.call('HGET', KEYS[guard.k], check[1])
      if not holds[check[2]](present, check[3]) then
        return 'G ' .. check[1] .. (present and (' ' .. present) or '')
      end
    end
  end
end

local function carry_out(guards, id, seq)
  local results = {}
  for _, guard in ipairs(guards) do
    local key = guard.n and (KEYS[guard.k] .. id) or KEYS[guard.k]
    for _, set in ipairs(guard.s) do
      local value = set[2]
      if value == '@id' then value = id elseif value == '@seq' then value = seq end
      redis.call('HSET', key, set[1], value)
    end
    for _, field in ipairs(guard.i) do
      results[#results + 1] = redis.call('HINCRBY', key, field, 1)
    end
    for _, field in ipairs(guard.d) do
      redis.call('HINCRBY', key, field, -1)
    end
    for _, field in ipairs(guard.r) do
      redis.call('HDEL', key, field)
    end
    if guard.t > 0 then redis.call('EXPIRE', key, guard.t) end
  end
  return table.concat(results, ' ')
end

-- The text kept of an answer in progress: fields "<message>" (run and attempt), "<message>:<track>" and "<message>:<track>:n".
local function keep_text(open)
  local key, message = KEYS[open.k], open.m
  if not open.t and not open.r then
    redis.call('HDEL', key, message, message .. ':text', message .. ':text:n', message .. ':reasoning', message .. ':reasoning:n')
    return
  end
  redis.call('HSET', key, message, open.h)
  redis.call('EXPIRE', key, 86400)
  if open.r then
    redis.call('HDEL', key, message .. ':reasoning', message .. ':reasoning:n')
    redis.call('HSET', key, message .. ':text', open.t or '', message .. ':text:n', open.e)
    return
  end
  local text, held = message .. ':' .. open.s, message .. ':' .. open.s .. ':n'
  if tonumber(redis.call('HGET', key, held) or '0') == open.f then
    redis.call('HSET', key, text, (redis.call('HGET', key, text) or '') .. open.t, held, open.e)
  end
end

local function ring(stream, seen, list, cut)
  if not seen[stream] then
    seen[stream] = true
    list[#list + 1] = string.sub(stream, prefix_bytes + 1, cut)
  end
end

-- What Redis raised (a string in 6.2, a table since 7.0): it is this entry's alone, the others of the batch go on.
local function refused_by_redis(err)
  return 'E ' .. (type(err) == 'table' and err.err or tostring(err))
end

local function append_live(at, extra)
  local stream = KEYS[tonumber(ARGV[at + 1])]
  local refused = extra and extra.g and refusal(extra.g)
  if refused then return refused end
  local verdict = 'A '
  local id = redis.pcall('XADD', stream, 'NOMKSTREAM', 'MAXLEN', '~', ARGV[4], '*',
    'type', ARGV[at + 6], 'v', ARGV[at + 7], 'actor', ARGV[at + 8], 'data', ARGV[at + 9], 'meta', ARGV[at + 10])
  if not id then
    if redis.call('EXISTS', string.sub(stream, 1, -6)) == 0 then verdict = 'N ' end
    id = redis.pcall('XADD', stream, '*',
      'type', ARGV[at + 6], 'v', ARGV[at + 7], 'actor', ARGV[at + 8], 'data', ARGV[at + 9], 'meta', ARGV[at + 10])
  end
  if type(id) == 'table' then return 'E ' .. id.err end
  if extra and extra.o then keep_text(extra.o) end
  local results = extra and extra.g and carry_out(extra.g, id, 0) or ''
  if not moved_live[stream] then redis.call('EXPIRE', stream, ARGV[9]) end
  ring(stream, moved_live, live_bell, -6)
  return verdict .. id .. ' 0 ' .. results
end

-- True while a remembered event is of the channel's present life: it is there, or was trimmed since. When a foreign hand has
-- deleted the stream, its command ids count no more: an answer must not name an event that nobody can read.
local function is_of_this_life(stream, meta, epoch, id)
  local now = string.sub(redis.call('HGET', meta, 'epoch') or '', 1, 8)
  return now == epoch and redis.call('EXISTS', stream) == 1 or #redis.call('XRANGE', stream, id, id) > 0
end

local function known_answer(stream, meta, idem, at)
  local command = ARGV[at + 4]
  if has_older[idem] == nil then has_older[idem] = redis.call('EXISTS', KEYS[idem + 1]) == 1 end
  local answer = redis.call('HGET', KEYS[idem], command)
  if not answer and has_older[idem] then answer = redis.call('HGET', KEYS[idem + 1], command) end
  if not answer then return nil end
  local hash, epoch, rest = string.match(answer, '^(%S+) (%S+) (.*)$')
  if hash ~= ARGV[at + 5] then return 'C' end
  return is_of_this_life(stream, meta, epoch, string.match(rest, '^%S+')) and ('D ' .. rest) or nil
end

local function is_of_user(idem)
  return string.find(KEYS[idem], '^[^:]+:idem:user:', prefix_bytes + 1) ~= nil
end

-- True when no further command id of a user may be kept. Asked once a batch: a generation may be over its number by one batch.
local function is_full(idem)
  if full[idem] == nil then
    full[idem] = has_older[idem] and is_of_user(idem) and redis.call('HLEN', KEYS[idem]) >= tonumber(ARGV[2])
  end
  return full[idem]
end

local function append_event(at, extra)
  local stream, meta, idem = KEYS[tonumber(ARGV[at + 1])], KEYS[tonumber(ARGV[at + 2])], tonumber(ARGV[at + 3])
  local answer = idem > 0 and known_answer(stream, meta, idem, at)
  if answer then return answer end
  if idem > 0 and is_full(idem) then return 'F' end
  local refused = extra and extra.g and refusal(extra.g)
  if refused then return refused end
  local id, seq = add(stream, meta, at)
  if type(id) == 'table' then return 'E ' .. id.err end
  seqs[meta], newest[meta] = seq, id
  redis.call('HSET', meta, 'seq', seq)
  ring(stream, moved, events_bell, -1)
  local results = extra and extra.g and carry_out(extra.g, id, seq) or ''
  if extra and extra.o then keep_text(extra.o) end
  local stored = id .. ' ' .. seq .. ' ' .. results
  if idem > 0 then
    redis.call('HSET', KEYS[idem], ARGV[at + 4], ARGV[at + 5] .. ' ' .. string.sub(epochs[meta], 1, 8) .. ' ' .. stored)
    idems[idem] = true
  end
  if ARGV[at + 11] == 'w' then
    redis.call('XADD', KEYS[2], '*', 'channel', string.sub(stream, prefix_bytes + 1), 'event', id, 'type', ARGV[at + 6])
  end
  return (seq == 1 and 'N ' or 'A ') .. stored
end

for at = 11, #ARGV, 14 do
  local extra = ARGV[at + 12] ~= '' and cjson.decode(ARGV[at + 12]) or nil
  local append = ARGV[at] == 'L' and append_live or append_event
  local is_done, answer = pcall(append, at, extra)
  replies[#replies + 1] = is_done and answer or refused_by_redis(answer)
end

for meta, id in pairs(newest) do
  local now_ms = tonumber(string.match(id, '^%d+'))
  if now_ms - listed[meta] >= 60000 or now_ms < listed[meta] then
    local directory, name = directory_of(meta)
    redis.call('ZADD', directory, 0, name)
    redis.call('HSET', meta, 'listed', now_ms)
  end
end
for idem in pairs(idems) do
  redis.call('EXPIRE', KEYS[idem], ARGV[3])
  if redis.call('HLEN', KEYS[idem]) >= tonumber(ARGV[2]) and not (has_older[idem] and is_of_user(idem)) then
    redis.call('RENAME', KEYS[idem], KEYS[idem + 1])
    redis.call('EXPIRE', KEYS[idem + 1], ARGV[10])
  end
end
if #begun_bell > 0 then
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], '*', 'events', table.concat(events_bell, ' '),
    'live', table.concat(live_bell, ' '), 'batch', ARGV[7], 'begun', table.concat(begun_bell, ' '))
elseif #events_bell > 0 or #live_bell > 0 then
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], '*',
    'events', table.concat(events_bell, ' '), 'live', table.concat(live_bell, ' '), 'batch', ARGV[7])
end
return replies

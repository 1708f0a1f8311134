-- look: what cursors are held against, and what is kept beside their channels, each channel read in one moment.
--
-- The channels may be of several partitions; in a Cluster they are of one, as all keys of a script are.
--
-- KEYS, a channel: the bell of its partition · its events stream · its meta hash · its live lane · the directory of the channels of
--   its tenant and kind · a key for each question
-- ARGV[1]  seed of the epoch of a life that follows another     ARGV[2]  length of a bell, entries (approximate)
-- then a channel: the cursor's id, or "" for none · the channel's path · its name · the life of its partition's data · number of
--   questions · a question: command that reads its key · number of further arguments · these. "HGETALL" with an argument is for a
--   hash of so many fields at most; a larger one is answered with its length. "XRANGE" is answered with nil where what it finds has
--   over 16 KiB.
--
-- It writes only where a channel that was written has lost its stream or its meta hash. The epoch of a channel that nobody wrote
-- follows from the log's life and the channel's path, and is stored by the first append (append.lua): following a channel keeps
-- nothing in Redis.
--
-- Reply, a channel: epoch, head id, head seq, floor id, floor seq, prev id, prev seq, next id, next seq, newest id of the live
-- lane, the mark of the archive or "", the mark of a deletion or "", then an answer to each question.
--   prev: the newest entry at or before the cursor; next: the oldest after it; "" where there is none.
local function hashed(text) return string.sub(redis.sha1hex(text), 1, 16) end

-- The first event of a range; entries that somebody added to the stream by hand are passed over. Where all entries are newer than
-- the range, XREVRANGE walks through all of them (75 ms for 500,000) and XRANGE does not: so XRANGE says first that there is one.
local function event(command, stream, from, to)
  local found
  repeat
    if command == 'XREVRANGE' and from ~= '+' and not redis.call('XRANGE', stream, to, from, 'COUNT', 1)[1] then return nil end
    found = redis.call(command, stream, from, to, 'COUNT', 1)[1]
    if found then from = '(' .. found[1] end
  until not found or (found[2][1] == 'seq' and found[2][12])
  return found
end

local function look(bell, stream, meta, live, directory, cursor, path, name, life)
  local known = redis.call('HMGET', meta, 'epoch', 'seq', 'floor_id', 'floor_seq', 'archive', 'deleted')
  local epoch, seq, floor_id, floor_seq, mark = known[1], known[2] or '0', known[3] or '0', known[4] or '0', known[5] or ''
  local deleted = known[6] or ''
  local last = event('XREVRANGE', stream, '+', '-')

  -- A stream that was trimmed to nothing, by whomever, is still there and knows its last ID: that is the floor then.
  if epoch and not last and seq ~= floor_seq and redis.call('EXISTS', stream) == 1 then
    local info = redis.call('XINFO', 'STREAM', stream)
    for at = 1, #info, 2 do
      if info[at] == 'last-generated-id' then floor_id, floor_seq = info[at + 1], seq end
    end
  end

  if not epoch and not last and not redis.call('ZSCORE', directory, name) then -- nobody wrote it
    epoch = hashed(life .. ' ' .. path)
  end

  -- A meta hash without its stream (it was deleted), or a stream without meta, is another life of the log.
  if not epoch or (not last and seq ~= floor_seq) then
    epoch, seq, floor_id, floor_seq, mark, deleted = hashed(ARGV[1] .. ' ' .. path), '0', '0', '0', '', ''
    redis.call('DEL', meta)
    if last then
      local first = event('XRANGE', stream, '-', '+')
      seq, floor_seq = last[2][2], tostring(tonumber(first[2][2]) - 1)
      redis.call('HSET', meta, 'floor_id', floor_id, 'floor_seq', floor_seq)
    end
    redis.call('HSET', meta, 'epoch', epoch, 'seq', seq)
    redis.call('XADD', bell, 'MAXLEN', '~', ARGV[2], '*', 'events', '', 'live', '', 'begun', path .. ' ' .. epoch)
  end

  local head_id, head_seq = floor_id, floor_seq
  if last then head_id, head_seq = last[1], last[2][2] end
  local newest_live = redis.call('XREVRANGE', live, '+', '-', 'COUNT', 1)[1]
  local prev, following
  if cursor ~= '' then
    prev = event('XREVRANGE', stream, cursor, '-')
    following = event('XRANGE', stream, '(' .. cursor, '+')
  end
  return {
    epoch, head_id, head_seq, floor_id, floor_seq,
    prev and prev[1] or '', prev and prev[2][2] or '', following and following[1] or '', following and following[2][2] or '',
    newest_live and newest_live[1] or '0', mark, deleted,
  }
end

local function answer(key, command, first, count)
  if command == 'HGETALL' and count == 1 then
    local length = redis.call('HLEN', key)
    if length > tonumber(ARGV[first]) then return length end
    return redis.call('HGETALL', key)
  end
  local found = redis.call(command, key, unpack(ARGV, first, first + count - 1))
  if command == 'XRANGE' then
    local left = 16384
    for _, entry in ipairs(found) do
      for _, field in ipairs(entry[2]) do left = left - #field end
    end
    if left < 0 then return false end
  end
  return found
end

local replies, at, key = {}, 3, 1
while at <= #ARGV do
  local reply = look(
    KEYS[key], KEYS[key + 1], KEYS[key + 2], KEYS[key + 3], KEYS[key + 4], ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  )
  local questions = tonumber(ARGV[at + 4])
  at, key = at + 5, key + 5
  for _ = 1, questions do
    local count = tonumber(ARGV[at + 1])
    reply[#reply + 1] = answer(KEYS[key], ARGV[at], at + 2, count)
    at, key = at + 2 + count, key + 1
  end
  replies[#replies + 1] = reply
end
return replies

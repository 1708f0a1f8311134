-- page: entries of one lane in a row, as many as fit a number of bytes; the first one always.
--
-- KEYS[1]  the lane's stream     KEYS[2]  the channel's meta hash; none for the live lane
-- ARGV[1]  XRANGE or XREVRANGE     ARGV[2]  where it begins     ARGV[3]  where it ends
-- ARGV[4]  most entries     ARGV[5]  most bytes of payloads
-- ARGV[6]  the reader has the archive (1)     ARGV[7]  a long way: that many events up to the head, 0 for none
--
-- It reads a few at a time, so that Redis itself never holds many of the largest. It writes nothing.
--
-- Reply: four texts an entry: its id; its seq, "" in the live lane; its checksum, nil where it has none; and what is under the
-- checksum, joined by newlines: type, v, actor, meta, data. As XRANGE gives an entry, it has four times as many to be packed here
-- and parsed there. Fewer entries than asked for are no sign of the end; none are. Entries that somebody added by hand are left out.
-- With KEYS[2]: epoch, the mark of the archive, the floor's id, 1 if a long way remains, and the entries. The mark is "" where the
-- archive has nothing to add. Where the range begins below the floor, it begins in the archive, and no entries are read. Before a
-- long way only the first few entries are read: the caller reads the rest of the page by XRANGE, which costs Redis a third of this.
local AT_ONCE = 32
local BEFORE_LONG = 16
local start, most, left = ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
local found, size, count = {}, 0, 0
local head, long, is_long = 0, tonumber(ARGV[7]) or 0, 0

-- True if the range begins with an event that was trimmed.
local function begins_below(floor)
  if start == '-' then return true end
  local ms, n = string.match(start, '^%(?(%d+)%-?(%d*)$')
  local floor_ms, floor_n = string.match(floor, '^(%d+)%-(%d+)$')
  ms, n, floor_ms, floor_n = tonumber(ms), tonumber(n) or 0, tonumber(floor_ms), tonumber(floor_n)
  if ms ~= floor_ms then return ms < floor_ms end
  if string.sub(start, 1, 1) == '(' then return n < floor_n end
  return n <= floor_n
end

local function take(id, seq, checksum, type, v, actor, meta, data)
  left = left - #data
  if left < 0 and count > 0 then return false end
  found[size + 1], found[size + 2], found[size + 3] = id, seq, checksum
  found[size + 4] = type .. '\n' .. v .. '\n' .. actor .. '\n' .. meta .. '\n' .. data
  size, count = size + 4, count + 1
  return true
end

-- True if no entry is left. Where all entries are newer, XREVRANGE walks through all of them to find none, and XRANGE does not.
local function is_over()
  return ARGV[1] == 'XREVRANGE' and start ~= '+' and not redis.call('XRANGE', KEYS[1], ARGV[3], start, 'COUNT', 1)[1]
end

local function read()
  while count < most and not is_over() do
    local asked = math.min(count == 0 and long > 0 and BEFORE_LONG or AT_ONCE, most - count)
    local entries = redis.call(ARGV[1], KEYS[1], start, ARGV[3], 'COUNT', asked)
    for _, entry in ipairs(entries) do
      local f, is_taken = entry[2], true
      if f[1] == 'seq' and f[12] then
        is_taken = take(entry[1], f[2], f[14] or false, f[4], f[6], f[8], f[12], f[10])
      elseif f[1] == 'type' and f[10] then
        is_taken = take(entry[1], '', false, f[2], f[4], f[6], f[10], f[8])
      end
      if not is_taken then return found end
    end
    if #entries < asked then return found end
    if long > 0 and size > 0 and head - (tonumber(found[size - 2]) or head) >= long then
      is_long = 1
      return found
    end
    start = '(' .. entries[#entries][1]
  end
  return found
end

if not KEYS[2] then return read() end
local known = redis.call('HMGET', KEYS[2], 'epoch', 'archive', 'floor_id', 'seq')
local epoch, mark, floor = known[1], known[2], known[3] or '0'
head = tonumber(known[4] or '') or 0
if ARGV[6] ~= '1' or not epoch or not mark or floor == '0' then
  read()
  return {'', '', '0', is_long, found}
end
if ARGV[1] == 'XRANGE' and begins_below(floor) then return {epoch, mark, floor, 0, {}} end
read()
return {epoch, ARGV[1] == 'XRANGE' and '' or mark, floor, is_long, found}

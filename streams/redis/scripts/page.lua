-- page: entries of one lane in a row, as many as fit a number of bytes; the first one always.
--
-- KEYS[1]  the lane's stream     KEYS[2]  the channel's meta hash, for a reader that has the archive
-- ARGV[1]  XRANGE or XREVRANGE     ARGV[2]  where it begins     ARGV[3]  where it ends
-- ARGV[4]  most entries     ARGV[5]  most bytes of payloads
--
-- It reads a few at a time, so that Redis itself never holds many of the largest. It writes nothing.
--
-- Reply: entries as XRANGE gives them. Fewer than asked for is no sign of the end; none is.
-- With KEYS[2]: epoch, the mark of the archive, the floor's id, and the entries. The mark is "" where the archive has nothing to
-- add. Where the range begins below the floor, it begins in the archive, and no entries are read.
local AT_ONCE = 32
local start, most, left = ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
local found = {}

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

local function read()
  while #found < most do
    local asked = math.min(AT_ONCE, most - #found)
    local entries = redis.call(ARGV[1], KEYS[1], start, ARGV[3], 'COUNT', asked)
    for _, entry in ipairs(entries) do
      local fields = entry[2]
      left = left - #fields[fields[1] == 'seq' and 10 or #fields - 2]
      if left < 0 and #found > 0 then return found end
      found[#found + 1] = entry
    end
    if #entries < asked then return found end
    start = '(' .. entries[#entries][1]
  end
  return found
end

if not KEYS[2] then return read() end
local known = redis.call('HMGET', KEYS[2], 'epoch', 'archive', 'floor_id')
local epoch, mark, floor = known[1], known[2], known[3] or '0'
if not epoch or not mark or floor == '0' then return {'', '', '0', read()} end
if ARGV[1] == 'XRANGE' and begins_below(floor) then return {epoch, mark, floor, {}} end
return {epoch, ARGV[1] == 'XRANGE' and '' or mark, floor, read()}

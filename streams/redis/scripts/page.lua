-- page: entries of one lane in a row, as many as fit a number of bytes; the first one always.
--
-- KEYS[1]  the lane's stream
-- ARGV[1]  XRANGE or XREVRANGE     ARGV[2]  where it begins     ARGV[3]  where it ends
-- ARGV[4]  most entries     ARGV[5]  most bytes of payloads
--
-- It reads a few at a time, so that Redis itself never holds many of the largest. It writes nothing.
--
-- Reply: entries as XRANGE gives them. Fewer than asked for is no sign of the end; none is.
local AT_ONCE = 32
local start, most, left = ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
local found = {}
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

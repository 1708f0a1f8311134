-- run_set: write one field of a run, if the one who asks still holds it.
--
-- KEYS[1]  the run's hash
-- ARGV[1]  holder      ARGV[2]  field      ARGV[3]  value
--
-- Reply: 1 when written, 0 when the run has another holder or is gone.
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return 1

-- archive_anew: a channel begins a new epoch with the events that it has, and with nothing archived.
--
-- KEYS[1]  the channel's meta hash
-- ARGV[1]  the epoch that ends     ARGV[2]  the new one
--
-- Reply: 1 if it was changed, or is so already; 0 if the epoch is another.
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch == ARGV[2] then return 1 end
if epoch ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[2])
redis.call('HDEL', KEYS[1], 'covered', 'archive', 'erased')
return 1

-- begin: fix what the keys of a log are made of, unless there is a log.
--
-- KEYS[1]  the configuration
-- ARGV[1]  number of partitions     ARGV[2]  their hash tags
--
-- Atomic: others that start at the same time see partitions and tags, or neither; partitions alone are an older version's.
-- Reply: the partitions, and the tags or nil, as they are now.
if redis.call('HEXISTS', KEYS[1], 'partitions') == 0 then
  redis.call('HSET', KEYS[1], 'partitions', ARGV[1], 'tags', ARGV[2])
end
return redis.call('HMGET', KEYS[1], 'partitions', 'tags')

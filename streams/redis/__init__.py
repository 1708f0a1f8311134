"""The log on Redis Streams: keys, scripts, append, tail, replay and consumer groups."""

"""The log on Redis Streams: keys, scripts, append, tail, replay, the embedded server."""

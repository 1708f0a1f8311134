"""WebSocket: the RFC 6455 codec, the upgrade, compression, and the two ways to serve a socket."""

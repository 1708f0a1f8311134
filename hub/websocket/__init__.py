"""WebSocket: the RFC 6455 codec, the upgrade, compression, and two ways to serve a socket: on uvicorn and on any ASGI server."""

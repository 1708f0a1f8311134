"""The only files that see a wire: the frame codec, uvicorn's protocol class, the ASGI endpoint, HTTP."""

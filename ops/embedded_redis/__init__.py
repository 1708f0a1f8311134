"""The Redis server that `hub dev` and the tests start if none is configured."""

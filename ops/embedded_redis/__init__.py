"""The Redis server that `hub dev` and the tests start when none is given."""

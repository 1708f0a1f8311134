"""Authentication and permissions: tokens, keys, revocations, allowed origins."""

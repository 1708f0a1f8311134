"""Object storage: the interface and its two implementations, a local folder and S3. It knows objects, not uploads."""

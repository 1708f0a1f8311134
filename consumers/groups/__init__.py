"""Processing of work through consumer groups: partitions, delivery, retries and parking."""

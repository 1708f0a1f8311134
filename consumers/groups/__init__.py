"""Consumer groups: delivery, partitions, retries, and parking."""

"""What every command passes: authentication, permissions, rate limits."""

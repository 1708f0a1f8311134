"""The wire contract: sessions, commands, replies, subscriptions and schemas. Pure."""

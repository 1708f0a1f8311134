"""What a node knows: its connections, its channels, and what it shares with other nodes."""

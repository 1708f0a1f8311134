"""One node: its connections, the channels they follow, and what it tells them."""

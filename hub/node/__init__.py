"""One node: its connections, the channels they follow, and the delivery of events to them."""

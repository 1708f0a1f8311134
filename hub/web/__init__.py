"""The page of the console, as files that the hub serves."""

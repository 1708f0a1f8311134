"""The console page, as files the hub serves."""

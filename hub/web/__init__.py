"""The console page and the JavaScript client, as files the hub serves."""

"""HTTP: the API, Server-Sent Events, service routes, and problem documents."""

"""The edge of the system: sockets, HTTP, authentication, limits, routing, fan-out, uploads, clients and the console.

This module imports nothing, so that `hub.client` works without the server's dependencies.
"""

"""A JWKS server, as an issuer of tokens runs one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hub.auth.verifier import TokenVerifier, open_verifier


def document(*keys: object) -> bytes:
    """A JWKS document with these keys."""
    return json.dumps({"keys": keys}).encode()


class Issuer:
    """A JWKS server on the loopback interface. `answer` writes each response; `paths` are the requested paths."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = self.publish()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.paths.append(self.path)
                issuer.answer(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json?v=1"

    def publish(self, *keys: object, status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
        """A response function that answers with these keys."""
        return self.send(document(*keys), status, **headers)

    def send(self, body: bytes, status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
        """A response function that answers with this body."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        self.answer = answer
        return answer

    def verifier(self) -> TokenVerifier:
        """A verifier for this issuer's tokens."""
        return open_verifier(jwks_url=self.url)

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

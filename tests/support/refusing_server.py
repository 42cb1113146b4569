"""A server that refuses everything, and remembers who said who they are."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class RefusingServer(ThreadingHTTPServer):
    """A server that refuses everything, repeats what it was sent, and remembers who said who they are."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[str | None] = []
        self.address = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: RefusingServer

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        said = self.headers.get("Authorization")
        self.server.seen.append(said)
        body = f"<html>no such page; your headers were: {said}, {self.headers}</html>".encode()
        self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET  # noqa: N815 - http.server's names

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - http.server's name for it
        """Keep quiet."""

"""Answers that never end, or that unpack to a gigabyte: bounded memory, and an error that is tried again."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = """
import json, resource, sys, time
import requests, urllib3
from requests.adapters import HTTPAdapter
from trackside.destinations.answers import limit_answers

limit_answers()
limit_answers()
said = {}
for name in sys.argv[2:]:
    session = requests.Session()
    retries = urllib3.Retry(total=0, status_forcelist=[500])  # as MLflow makes it
    session.mount("http://", HTTPAdapter(max_retries=retries))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    try:
        answer = session.get(sys.argv[1] + name, timeout=20)
        said[name] = [answer.text[:80]]
    except Exception as error:
        said[name] = [f"{type(error).__name__}: {error}"]
    session.close()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    said[name] += [grown, time.monotonic() - began]
print(json.dumps(said))
"""

BLOCK = bytes(1 << 16)


class Hostile(BaseHTTPRequestHandler):
    """Answers by the name that is asked for."""

    protocol_version = "HTTP/1.1"
    bomb = gzip.compress(bytes(1 << 24)) * 64
    twice = gzip.compress(bomb)

    def do_GET(self) -> None:
        """Answer, until the client has had enough."""
        try:
            getattr(self, self.path.strip("/"))()
        except OSError:
            self.close_connection = True

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def fine(self) -> None:
        body = gzip.compress(b'{"run": "fine"}')
        self._send(200, body, Content_Length=str(len(body)), Content_Encoding="gzip")

    def large(self) -> None:
        self._endless(200, str(10 << 30))

    def endless(self) -> None:
        self._endless(200, None)

    def failing(self) -> None:
        self._endless(500, str(10 << 30))

    def _endless(self, status: int, length: str | None) -> None:
        headers = {"Connection": "close"} if length is None else {"Content_Length": length}
        self._send(status, b"", **headers)
        while True:
            self.wfile.write(BLOCK)

    def chunked(self) -> None:
        self._send(200, Transfer_Encoding="chunked")
        while True:
            self.wfile.write(b"10000\r\n" + BLOCK + b"\r\n")

    def packed(self) -> None:
        self._send(200, self.bomb, Content_Length=str(len(self.bomb)), Content_Encoding="gzip")

    def packed_twice(self) -> None:
        self._send(200, self.twice, Content_Length=str(len(self.twice)), Content_Encoding="gzip, gzip")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Takes it calmly that clients hang up."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """The address of the hostile server."""
    made = Server(("127.0.0.1", 0), Hostile)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{made.server_address[1]}/"
    made.shutdown()
    thread.join()
    made.server_close()


def test_no_answer_takes_all_memory(server: str) -> None:
    """Each too large answer is an error within seconds and 150 MB. The one that is fine is read."""
    names = ["fine", "large", "endless", "chunked", "failing", "packed", "packed_twice"]
    command = [sys.executable, "-c", SCRIPT, server, *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    said: dict[str, tuple[str, int, float]] = json.loads(done.stdout)
    assert said["fine"][0] == '{"run": "fine"}'
    for name in ("large", "endless", "chunked", "packed"):
        assert "RetryableError: the server's answer is not read: it is larger than 32 MiB" in said[name][0]
    assert "packed more than once" in said["packed_twice"][0]
    assert "too many 500 error responses" in said["failing"][0]
    assert all(kilobytes < 150_000 for _, kilobytes, _ in said.values()), said
    assert all(seconds < 60 for _, _, seconds in said.values()), said

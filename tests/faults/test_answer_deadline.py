"""A server that drips: each byte comes in time, and the whole never does."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
import requests

from tests.faults.fake import until
from trackside.destinations import answers
from trackside.destinations.answers import bound_answers, close_overdue, patience

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class DrippingServer:
    """Sends ``begin`` at once, then a byte every 20 ms for ever."""

    def __init__(self, begin: bytes) -> None:
        self._begin = begin
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.let_go = 0
        """Connections that the client has ended."""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                try:
                    connection.sendall(self._begin)
                    while self._begin != WHOLE:
                        connection.sendall(b"a")
                        time.sleep(0.02)
                except OSError:
                    self.let_go += 1

    def close(self) -> None:
        """Accept nothing more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


@pytest.fixture(autouse=True)
def bounded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the shipper does to its process, taken back after the test."""
    monkeypatch.setattr(http.client.HTTPConnection, "getresponse", http.client.HTTPConnection.getresponse)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "0.2")
    bound_answers()
    bound_answers()
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            close_overdue()

    thread = threading.Thread(target=watch)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\nX-Drip: ", HEAD], ids=["head", "body"])
def test_an_answer_that_drips_ends(begin: bytes) -> None:
    """In its head or in its body: the request fails in time, and the connection is gone."""
    server = DrippingServer(begin)
    begun = time.monotonic()
    with pytest.raises(requests.RequestException):
        requests.get(server.url, timeout=0.2)
    assert patience() == 0.4
    assert 0.3 < time.monotonic() - begun < 10
    until(lambda: server.let_go == 1)
    server.close()


def test_an_answer_in_time_is_left_alone() -> None:
    """Also one that is never closed: what was read, or is forgotten, is watched no more."""
    server = DrippingServer(WHOLE)
    for _ in range(3):
        assert requests.get(server.url, timeout=5).json() == {}
    until(lambda: not answers._awaited)
    server.close()


@pytest.mark.parametrize(("text", "seconds"), [("", 60.0), ("soon", 60.0), ("120", 240.0)])
def test_the_patience_follows_mlflows_own(text: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever allows a request more time allows the answer more time."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", text)
    assert patience() == seconds

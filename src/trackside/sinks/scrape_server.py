"""The HTTP server that a Prometheus sink is scraped from, in a daemon thread.

Invariants:

* A program that closes descriptors which are not its own (a daemon's ``os.closerange``) costs one scrape at
  most. The server notices that its socket is gone, and opens another one on the same port.
* Nothing is accepted from, written to or closed but the server's own sockets, also where a file or a socket
  of the program has taken their numbers.
* ``close`` frees the port though a forked child still holds the socket: it stops the listening itself, and
  not only this process's share of it. A child only closes its share, so that the parent keeps serving.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from trackside.system.descriptors import OwnDescriptor, move_up

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

logger = logging.getLogger("trackside.sinks")

LOOK_EVERY = 0.5
"""Seconds between two checks that the socket still exists."""


class ScrapeServer:
    """Serves ``app`` on ``address``. ``port`` 0 is any free one. Raises ``OSError`` or ``OverflowError``."""

    def __init__(self, address: str, port: int, app: WSGIApplication) -> None:
        self._app = app
        self._listener = _Listener(address, port, app)
        self._address = address
        self.port: int = self._listener.server_port
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="trackside-prometheus", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving, and free the port."""
        self._closed = True
        self._listener.stop_listening()
        self._thread.join()
        self._listener.stop_listening()  # if the thread has just opened another

    def abandon(self) -> None:
        """Close the port in a forked child, which has no such thread."""
        self._listener.server_close()

    def _serve(self) -> None:
        while not self._closed:
            if self._listener.is_open() or self._open_again():
                with contextlib.suppress(OSError, ValueError):  # closed at this moment
                    self._listener.handle_request()
            else:
                return

    def _open_again(self) -> bool:
        if self._closed:
            return False
        self._listener.server_close()
        try:
            self._listener = _Listener(self._address, self.port, self._app)
        except OSError as error:
            logger.warning(
                "the program has closed the socket of the Prometheus sink, and port %d can't be opened again "
                "(%s): nothing is served there from now on. Close descriptors before you make the sink",
                self.port,
                error,
            )
            return False
        return True


class _Listener(ThreadingMixIn, WSGIServer):
    """A socket that listens, and a daemon thread for each request."""

    daemon_threads = True
    timeout = LOOK_EVERY
    _own: OwnDescriptor | None = None

    def __init__(self, address: str, port: int, app: WSGIApplication) -> None:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, place = found[0][0], found[0][4]
        super().__init__((str(place[0]), port), _QuietHandler)
        self.set_app(app)
        self._own = OwnDescriptor(self.socket.detach())
        self.socket = socket.socket(fileno=self._own.fileno())

    def is_open(self) -> bool:
        """Whether the socket is still this server's."""
        return self._own is not None and self._own.fileno() >= 0

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection under a number that the program is unlikely to reach."""
        if not self.is_open():
            raise OSError("the program has closed the socket")
        connection, client = super().get_request()
        return socket.socket(fileno=move_up(connection.detach())), client

    def stop_listening(self) -> None:
        """Close the socket in every process that holds it."""
        if self.is_open():
            with contextlib.suppress(OSError):  # macOS: not connected
                self.socket.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def server_close(self) -> None:
        """Close the socket if it is still ours."""
        if self._own is not None:
            self.socket.detach()
            self._own.close()
        super().server_close()


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parameter's inherited name
        """Log no requests."""

"""What the trainer and its shipper tell each other over their channel.

The shipper says that it is at work, that another one has the journal, or that everything is delivered. The
trainer passes on what has changed in its environment.

Invariant: a new shipper starts with a clean slate. Of what the one before has said, only "delivered" stays.
"""

from __future__ import annotations

import threading

from trackside.journal import lossless_json
from trackside.redaction.forms import mask_address
from trackside.redaction.redact import with_credentials
from trackside.settings import environment_address
from trackside.shipper import environment
from trackside.shipper.protocol import DONE, Channel

HEAR_TIMEOUT = 0.1
"""Seconds to wait for a thread that reads the shipper's words. A signal handler may have interrupted it."""


class Conversation:
    """The trainer's side of the channel, for one shipper after another. Any thread may call it."""

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri
        """The address with the credentials that the shipper knows."""
        self._channel: Channel | None = None
        self._environment: dict[str, str] = {}
        self._hearing = threading.Lock()
        self._said: set[bytes] = set()

    def begin(self) -> Channel:
        """The channel for a new shipper, which inherits the environment as it is now."""
        channel = self._channel
        if channel is None or not channel.is_open():
            if channel is not None:
                channel.close()
            channel = self._channel = Channel()
        alone = self._hearing.acquire(timeout=HEAR_TIMEOUT)
        channel.forget()
        self._said &= {DONE}
        if alone:
            self._hearing.release()
        self._environment = environment.variables()
        return channel

    def has_said(self, word: bytes) -> bool:
        """Whether the shipper has said ``READY`` or ``LOCKED``, or any shipper ``DONE``."""
        self._listen()
        return word in self._said

    def pass_on_environment(self) -> None:
        """Tell the shipper which variables have changed: a renewed token, another proxy.

        A change that it can't take now is passed on at the next call.
        """
        channel = self._channel
        if channel is None:
            return
        now, known = environment.variables(), self.tracking_uri
        uri = with_credentials(mask_address(known), environment_address())
        renewed = uri if uri not in {known, mask_address(known)} else None
        changed = environment.changes(self._environment, now)
        if not changed and renewed is None:
            return
        if channel.send(lossless_json.encode(environment.Renewal(changed, renewed))):
            self._environment = now
            self.tracking_uri = renewed or known

    def hang_up(self) -> None:
        """Close the channel, after a last look at what the shipper has said."""
        self._listen()
        self._close()

    def abandon(self) -> None:
        """In a forked child: let go of the channel, and of a lock that a thread of the parent may hold."""
        self._hearing = threading.Lock()
        self._close()

    def _close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _listen(self) -> None:
        if not self._hearing.acquire(timeout=HEAR_TIMEOUT):
            return
        try:
            channel = self._channel  # another thread may hang up
            self._said.update([] if channel is None else channel.words())
        finally:
            self._hearing.release()

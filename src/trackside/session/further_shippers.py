"""Where this process gets its shippers from: the first is started from scratch, and the others are forked.

A training with one run needs no fork server, which is a process more. From the second run on, one that has
imported MLflow is cheaper (:mod:`trackside.shipper.forked`): a sweep of a hundred runs imports it twice.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from trackside.shipper.forked import ForkServer

if TYPE_CHECKING:
    import subprocess
    from typing import Any

    from trackside.shipper.forked import ForkedShipper


class FurtherShippers:
    """Starts the shippers of this process's runs after the first."""

    def __init__(self) -> None:
        self._process = 0
        self._server = ForkServer(waits=False)

    def is_first(self) -> bool:
        """Whether the run that asks is the first one of its process."""
        if self._process == os.getpid():
            return False
        self._process = os.getpid()
        return True

    def start(self, command: list[str], **how: Any) -> subprocess.Popen[bytes] | ForkedShipper:
        """Start a shipper, as :func:`trackside.shipper.spawn.spawn` would."""
        return self._server.start(command, **how)

    def close(self) -> None:
        """Let the fork server leave, and begin anew."""
        self._process = 0
        self._server.close()


further_shippers = FurtherShippers()

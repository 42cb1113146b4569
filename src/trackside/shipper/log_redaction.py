"""Keep secrets out of ``shipper.log``, which we, MLflow, drivers and tracebacks write to."""

from __future__ import annotations

import os
import re
import sys
import threading
from typing import TYPE_CHECKING, Any, TextIO

from trackside.redaction.forms import MASK
from trackside.redaction.known_values import SHORTEST_IN_USE, kept_by_mlflow, know, passwords_in, secrets_of
from trackside.redaction.redact import redact, secrets_among

if TYPE_CHECKING:
    from trackside.shipper.environment import Renewal

_KEY_BEGINS = re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----(?!.*-----END)")
_KEY_LINES = 500
"""Lines behind the head of a private key that may belong to it."""


class MaskedStream:
    """A text stream that masks each line before it goes to ``stream``."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()
        self._line = ""
        self._of_key = 0

    def write(self, text: str) -> int:
        """Keep ``text`` until its line is whole."""
        with self._lock:
            *lines, self._line = (self._line + text).split("\n")
            for line in lines:
                self._stream.write(self._mask(line) + "\n")
        return len(text)

    def flush(self) -> None:
        """Pass on whole lines. A part of a line waits, because masking does not find half a secret."""
        with self._lock:
            self._stream.flush()

    def isatty(self) -> bool:
        """No terminal."""
        return False

    def fileno(self) -> int:
        """The descriptor behind it, for those who write past the mask (a crash of the interpreter)."""
        return self._stream.fileno()

    def _mask(self, line: str) -> str:
        if self._of_key:  # the lines of a private key look like nothing by themselves
            self._of_key = 0 if "-----END" in line else self._of_key - 1
            return MASK
        if _KEY_BEGINS.search(line):
            self._of_key = _KEY_LINES
        return redact(line)


def mask_output(tracking_uri: str, options: Any = None) -> None:
    """From now on nothing written to stdout or stderr shows the credentials in use.

    ``options``: those of the destinations, whose secrets are known from now on.
    """
    in_use = [os.environ.get(name, "") for name in ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")]
    know([*in_use, *passwords_in(tracking_uri), kept_by_mlflow()[1]], shortest=SHORTEST_IN_USE)
    know(secrets_among(options))
    know(secrets_of(os.environ))  # those that are renewed are secrets all the same
    sys.stdout = MaskedStream(sys.stdout)
    sys.stderr = MaskedStream(sys.stderr)


def hide(renewal: Renewal) -> None:
    """Mask the credentials of ``renewal`` as well, from now on."""
    variables = {name: value for name, value in renewal.variables.items() if value}
    know([*secrets_of(variables), *passwords_in(renewal.tracking_uri or "")], shortest=SHORTEST_IN_USE)

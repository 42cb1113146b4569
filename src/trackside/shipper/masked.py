"""Keeping credentials out of ``shipper.log``, whoever writes: we, MLflow, a driver, a traceback."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import unquote, urlsplit

from trackside.masking import MASK, mask_secrets, mask_uri

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trackside.shipper.environment import Renewal

_SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "WANDB_API_KEY")
_SHORTEST = 4
"""Characters below which a password is not looked for by itself: the log would be full of stars."""


class MaskedStream:
    """A text stream that masks each line before it goes to ``stream``."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, stream: TextIO, secrets: Iterable[str] = ()) -> None:
        self._stream = stream
        self._secrets = sorted(set(secrets), key=len, reverse=True)
        self._lock = threading.RLock()
        self._line = ""

    def mask_too(self, secrets: Iterable[str]) -> None:
        """Mask these from now on, besides those known."""
        with self._lock:
            self._secrets = sorted({*self._secrets, *secrets}, key=len, reverse=True)

    def write(self, text: str) -> int:
        """Keep ``text`` until its line is whole."""
        with self._lock:
            *lines, self._line = (self._line + text).split("\n")
            for line in lines:
                self._stream.write(self._mask(line) + "\n")
        return len(text)

    def flush(self) -> None:
        """Pass on what there is; a line that is not whole waits, since half a secret is not found."""
        with self._lock:
            self._stream.flush()

    def close_line(self) -> None:
        """Pass on a last line that has no end."""
        if self._line:
            self.write("\n")
        self.flush()

    def isatty(self) -> bool:
        """No terminal."""
        return False

    def fileno(self) -> int:
        """The descriptor behind it, for those who write past the mask (a crash of the interpreter)."""
        return self._stream.fileno()

    def _mask(self, line: str) -> str:
        for secret in self._secrets:
            line = line.replace(secret, MASK)
        return mask_uri(line)


def mask_output(tracking_uri: str, options: Any = None) -> None:
    """From now on nothing written to stdout or stderr shows the credentials in use.

    ``options``: those of the destinations, of which secrets are left out that look like ones.
    """
    secrets = secrets_in(tracking_uri) + secrets_among(options)
    secrets += [os.environ[name] for name in _SECRET_VARIABLES if os.environ.get(name)]
    kept = [secret for secret in secrets if len(secret) >= _SHORTEST]
    sys.stdout = MaskedStream(sys.stdout, kept)
    sys.stderr = MaskedStream(sys.stderr, kept)


def hide(renewal: Renewal) -> None:
    """Mask the credentials of ``renewal`` as well, from now on."""
    secrets = [value for name, value in renewal.variables.items() if value and _holds_secret(name, value)]
    secrets += secrets_in(renewal.tracking_uri or "")
    secrets += [s for value in renewal.variables.values() if value for s in secrets_in(value)]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, MaskedStream):
            stream.mask_too(secret for secret in secrets if len(secret) >= _SHORTEST)


def _holds_secret(name: str, value: str) -> bool:
    return name in _SECRET_VARIABLES or mask_secrets({name: value}) != {name: value}


def secrets_among(options: Any) -> list[str]:
    """The texts in nested ``options`` that a mask is put on, or the passwords in them."""
    return _differences(options, mask_secrets(options))


def _differences(whole: Any, masked: Any) -> list[str]:
    if isinstance(whole, dict) and isinstance(masked, dict):
        return [secret for key in whole for secret in _differences(whole[key], masked[key])]
    if isinstance(whole, list) and isinstance(masked, list):
        return [s for one, other in zip(whole, masked, strict=True) for s in _differences(one, other)]
    if not isinstance(whole, str) or whole == masked:
        return []
    return [whole] if masked == MASK else secrets_in(whole)


def secrets_in(uri: str) -> list[str]:
    """The password in ``uri``, as it is spelt and as it is meant."""
    try:
        password = urlsplit(uri).password
    except ValueError:
        return []
    return [password, unquote(password)] if password else []

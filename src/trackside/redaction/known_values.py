"""The secrets this process knows by value, in every spelling in which they may turn up in a text.

They are the credentials in use (of addresses, of destinations), which :func:`know` receives, and what
environment variables with a secret's name hold. The environment is looked at again when it has changed.

What is too short or too common to be looked for in any text is left to the forms
(:mod:`trackside.redaction.forms`). Masking every "mlflow" because it is a password would mask the log.
"""

from __future__ import annotations

import base64
import configparser
import contextlib
import html
import json
import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote, urlsplit

from trackside.redaction.forms import MASK
from trackside.redaction.names import is_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SHORTEST = 6
"""Characters below which a value is not looked for by itself."""

SHORTEST_IN_USE = 4
"""The same for a credential that is in use for sure."""

LONG = 8
"""Characters from which a value is looked for within words, too."""

_LONGEST = 100_000
_MOST_TOLD = 1000
"""A program that makes a secret for each request must not slow each text down."""

_LINE = 16
"""Characters from which a single line of a value of several lines is looked for."""

_COMMON = frozenset(
    "access admin administrator anonymous authenticate bearer cookie credential credentials database "
    "default disabled enabled example experiment hidden localhost metrics mlflow mlflow-admin "
    "nothing optional password password1 postgres postgresql private public required root secret secrets "
    "service string tracking trackside training unknown username validation adam data demo epoch file guest "
    "host http https line local loss main model name none null pass step test token train true user".split()
)
# Of shells: directories.
_NOT_SECRET_VARIABLES = frozenset({"PWD", "OLDPWD"})
_PATH = re.compile(r"(?:~|\.{1,2})?/|[A-Za-z]:\\")
# Variables of such a name hold the secret itself or, by custom, the file it is in.
_MAYBE_FILE = re.compile(r"(?i)(?:credentials?|secrets?|auth|cookies?|key|pwd)$")
_NOT_BY_PATH = re.compile(r"(?i)(?:secret|access|api|account|storage)_?(?:access)?_?key$")

_told: set[str] = set()


def know(values: Iterable[str], *, shortest: int = SHORTEST) -> None:
    """Mask these wherever they appear, from now on. Those too short or common are left out."""
    for value in values:
        if len(_told) < _MOST_TOLD and _is_distinct(value, shortest):
            _told.add(value)


def known_pattern() -> re.Pattern[str] | None:
    """What finds the known secrets, or None if no secret is known. Ask once for many texts."""
    return _compile(frozenset(os.environ.items()), frozenset(_told))


def passwords_in(address: str) -> list[str]:
    """The password in an address, or the token alone in front of its host, as spelt and as meant."""
    try:
        parts = urlsplit(address)
        secret = parts.password or (
            parts.username if "@" in parts.netloc and ":" not in parts.netloc else None
        )
    except ValueError:
        return []
    return [secret, unquote(secret)] if secret else []


def kept_by_mlflow() -> tuple[str, str]:
    """User name and password in ``~/.mlflow/credentials`` (``mlflow/utils/credentials.py``), if any."""
    parser = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(OSError, ValueError, configparser.Error):
        parser.read(os.path.expanduser("~/.mlflow/credentials"), "utf-8")
        names = ("mlflow_tracking_username", "mlflow_tracking_password")
        user, password = (parser.get("mlflow", name, fallback="") for name in names)
        return user, password
    return "", ""


def secrets_of(environment: Mapping[str, str]) -> Iterator[str]:
    """What the variables with a secret's name hold, and the passwords in those that hold an address."""
    usual = {environment.get(name, "") for name in ("USER", "LOGNAME", "HOME", "USERNAME")}
    for name, value in environment.items():
        if "://" in value:
            yield from (secret for secret in passwords_in(value.strip()) if _is_distinct(secret))
        if _is_secret_variable(name, value) and value not in usual:
            yield value.strip()


def _is_secret_variable(name: str, value: str) -> bool:
    if name in _NOT_SECRET_VARIABLES or not is_secret(name, value) or not _is_distinct(value.strip()):
        return False
    by_custom_a_file = _MAYBE_FILE.search(name) and not _NOT_BY_PATH.search(name)
    return not (by_custom_a_file and _PATH.match(value))


def _is_distinct(value: str, shortest: int = SHORTEST) -> bool:
    """Whether ``value`` can be looked for in any text without masking what is not meant."""
    if not shortest <= len(value) <= _LONGEST or value.lower() in _COMMON or MASK in value:
        return False
    if value.replace(".", "").isdigit() and len(value) < LONG:
        return False
    return len(set(value)) > 2  # noqa: PLR2004 - xxxxxx, and a row of stars


@lru_cache(maxsize=2)
def _compile(environment: frozenset[tuple[str, str]], told: frozenset[str]) -> re.Pattern[str] | None:
    spellings: set[str] = set()
    for value in {*secrets_of(dict(environment)), *told}:
        spellings |= set(_spellings(value))
    if not spellings:
        return None
    longest_first = sorted(spellings, key=lambda spelling: (-len(spelling), spelling))
    return re.compile("|".join(map(_expression, longest_first)))


def _expression(spelling: str) -> str:
    escaped = re.sub("%([0-9A-F])([0-9A-F])", _either_case, re.escape(spelling))
    return escaped if len(spelling) >= LONG else f"(?<![A-Za-z0-9]){escaped}(?![A-Za-z0-9])"


def _spellings(value: str) -> Iterator[str]:
    """``value`` as it may stand in an address, in JSON, a repr, HTML, a header, or line by line."""
    lines = [line.strip() for line in value.splitlines()]
    for plain in {value, *(line for line in lines if len(line) >= _LINE)}:
        raw = plain.encode("utf-8", "surrogateescape")
        quoted = {quote(raw, safe=""), quote(raw, safe="/"), quote(raw), quote_plus(raw)}
        yield from {plain, *quoted}
        for escaped in (json.dumps(plain), json.dumps(plain, ensure_ascii=False), repr(plain), repr(raw)[1:]):
            yield escaped[1:-1]
            yield json.dumps(escaped[1:-1])[1:-1]
        yield html.escape(plain)
        yield plain.replace("'", "''")
        if len(raw) >= LONG:
            yield raw.hex()
            yield from _base64(raw)


def _either_case(quoted: re.Match[str]) -> str:
    """An expression for ``%2F``, which some write ``%2f``."""
    return "%" + "".join(
        f"[{digit}{digit.lower()}]" if digit.isalpha() else digit for digit in quoted.groups()
    )


def _base64(raw: bytes) -> Iterator[str]:
    """What base64 makes of ``raw``, wherever in the encoded bytes it begins (``user:`` goes before it)."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw).decode("ascii").rstrip("=")
        first = (8 * before + 5) // 6
        whole = 8 * (before + len(raw)) // 6  # a character behind these depends on what follows
        inner = encoded[first:whole]
        yield from {inner, inner.replace("+", "-").replace("/", "_")}

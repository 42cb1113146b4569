"""The one exit for text: whatever leaves the process as text passes :func:`redact`.

Two rules. *Known values*, the secrets this process has in its environment or uses as credentials, are
masked wherever they appear (:mod:`trackside.redaction.known_values`). *Shapes* are masked by key
(:mod:`trackside.redaction.names`) and by form (:mod:`trackside.redaction.forms`). A configuration passes
:func:`redact_config`, which applies both to every key and value in it.

What is compared or connected to, an address, passes :func:`mask_address`, which knows no values: two
processes with different environments have to make the same of it.

Invariants:

* Nothing here raises, waits or logs. Metrics and their names never come here.
* Masking again changes nothing.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from trackside.redaction.forms import MASK, mask_address, mask_forms
from trackside.redaction.known_values import known_pattern, passwords_in
from trackside.redaction.names import FIELD_NAMES, is_secret
from trackside.text import encodable

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator, Sequence

# {"name": "DB_PASSWORD", "value": "x"}, as Kubernetes and CI systems write the environment.
_NAME_KEYS = ("name", "key", "variable", "var", "header", "option")
_VALUE_KEYS = ("value", "val", "default", "content")
_PAIR = 2
# Secret in the company of the section's name only, as "api key" is.
_VAGUE_KEYS = frozenset({"key", "pass", "pat", "code"})


def redact(text: str) -> str:
    """``text`` with the secrets in it as ``***``. Lone surrogates are spelt out: it can be encoded."""
    return encodable(_Redaction().text(text))


def redact_config(plain: Any) -> Any:
    """A copy of ``plain`` (nested dicts, lists, tuples and scalars) with its secrets as ``***``.

    ``None``, booleans and empty strings stay, under any key: they tell only that a secret is unset
    or wanted. A dict or list under a secret key is masked whole.
    """
    return _Redaction().any(plain)


def redact_mapping(texts: dict[str, str]) -> dict[str, str]:
    """Tags and other texts by name, with their secrets as ``***``."""
    redaction = _Redaction()
    return {str(redaction.text(key)): str(redaction.entry(key, value)) for key, value in texts.items()}


def with_credentials(address: str, candidate: str) -> str:
    """``candidate`` if it is the masked ``address`` with its credentials, otherwise ``address``."""
    return candidate if candidate and mask_address(candidate) == address else address


def secrets_among(whole: Any) -> list[str]:
    """The texts in nested ``whole`` that :func:`redact_config` masks, and the passwords in its addresses."""
    return list(_differences(whole, redact_config(whole)))


def _differences(whole: Any, masked: Any) -> Iterator[str]:
    if isinstance(whole, dict) and isinstance(masked, dict):
        for value, other in zip(whole.values(), masked.values(), strict=True):
            yield from _differences(value, other)
    elif isinstance(whole, (list, tuple)) and isinstance(masked, (list, tuple)):
        for value, other in zip(whole, masked, strict=True):
            yield from _differences(value, other)
    elif whole != masked:
        yield from _texts_in(whole) if masked == MASK else passwords_in(str(whole))


def _texts_in(secret: Any) -> Iterator[str]:
    """What a mask is put on: a text, or the texts in a section that is masked whole."""
    if isinstance(secret, dict):
        secret = list(secret.values())
    if isinstance(secret, (list, tuple)):
        for item in secret:
            yield from _texts_in(item)
    elif isinstance(secret, str):
        yield secret


class _Redaction:
    """One pass over a text or a configuration, with the secrets that are known at its beginning."""

    def __init__(self) -> None:
        self._known: re.Pattern[str] | None = known_pattern()

    def text(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(MASK, text)
        return mask_forms(text)

    def any(self, plain: Any, name: str = "") -> Any:
        if isinstance(plain, str):
            return self.text(plain)
        if isinstance(plain, dict):
            return self._dict(plain, name)
        if isinstance(plain, (list, tuple)):
            return self._sequence(plain)
        if isinstance(plain, (bytes, bytearray)):
            return self.text(bytes(plain).decode("latin-1")).encode("latin-1")
        return plain

    def entry(self, key: str, value: Any, section: str = "") -> Any:
        if value is None or isinstance(value, bool) or value == "":
            return value
        name = f"{section}.{key}" if section and key.lower() in _VAGUE_KEYS else key
        return MASK if is_secret(name, value) else self.any(value, key)

    def _dict(self, plain: dict[Any, Any], section: str) -> dict[Any, Any]:
        named = _named_values(plain)
        masked: dict[Any, Any] = {}
        for key, value in plain.items():
            name = self._key(key, masked)
            masked[name] = MASK if key in named else self.entry(str(key), value, section)
        return masked

    def _key(self, key: Any, taken: dict[Any, Any]) -> Any:
        if not isinstance(key, str) or (name := self.text(key)) == key:
            return key
        number, candidate = 1, name
        while candidate in taken:
            number += 1
            candidate = f"{name}-{number}"
        return candidate

    def _sequence(self, plain: Sequence[Any]) -> Any:
        items = [MASK if masked else item for masked, item in zip(_secret_items(plain), plain, strict=True)]
        masked = [self.any(item) for item in items]
        return tuple(masked) if isinstance(plain, tuple) else masked


def _named_values(plain: dict[Any, Any]) -> set[str]:
    """The keys of the values in a mapping that names a secret and gives its value."""
    name = next((plain[key] for key in _NAME_KEYS if isinstance(plain.get(key), str)), None)
    if name is None:
        return set()
    values = {key: plain[key] for key in _VALUE_KEYS if plain.get(key)}
    return {key for key, value in values.items() if value is not True and is_secret(name, value)}


def _secret_items(items: Sequence[Any]) -> list[bool]:
    """Which items are secret by what stands before them: ``["--api-key", "x"]``, ``("password", "x")``."""
    secret = [False] * len(items)
    for index, (before, item) in enumerate(pairwise(items)):
        if item is None or isinstance(item, bool) or not item or _is_option(item):
            continue
        name = _text_of(before)
        pair = len(items) == _PAIR and str(item).lower() not in FIELD_NAMES
        if (_is_option(before) and "=" not in name) or pair:
            secret[index + 1] = is_secret(name, item)
    return secret


def _is_option(item: Any) -> bool:
    return _text_of(item).startswith("-")


def _text_of(item: Any) -> str:
    if isinstance(item, (bytes, bytearray)):
        return bytes(item).decode("latin-1")
    if not isinstance(item, str):
        return ""
    return item[2:-1] if item.startswith(("b'", 'b"')) else item  # bytes, as a configuration shows them

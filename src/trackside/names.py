"""Make names and values that MLflow accepts from any text.

The rules are MLflow's own, from ``mlflow/utils/validation.py`` (``validate_param_and_metric_name``,
``path_not_unique``, ``MAX_ENTITY_KEY_LENGTH``, ``MAX_PARAM_VAL_LENGTH``); they hold for params,
metrics and tags. A server on Windows refuses colons besides, which is not looked at here.
"""

from __future__ import annotations

import posixpath
import re
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

MAX_KEY_LENGTH = 250
"""Characters in a key: MAX_ENTITY_KEY_LENGTH."""

MAX_PARAM_VALUE_LENGTH = 6000
"""Characters in a param's value: MAX_PARAM_VAL_LENGTH."""

MAX_TAG_VALUE_LENGTH = 8000
"""Characters in a tag's value: MAX_TAG_VAL_LENGTH."""

MAX_METRICS_PER_BATCH = 1000
"""Metrics in a request: MAX_METRICS_PER_BATCH."""

MAX_PARAMS_TAGS_PER_BATCH = 100
"""Params, and tags, in a request: MAX_PARAMS_TAGS_PER_BATCH."""

MAX_REQUEST_BYTES = 1_000_000
"""Bytes of a request: MAX_BATCH_LOG_REQUEST_SIZE."""

_T = TypeVar("_T")

_BAD_IN_MODELS = re.compile(r"[/:.%\"'\x00-\x1f]+")
"""``_validate_logged_model_name``, and what has no place in a name."""

_BAD_CHARACTER = re.compile(r"[^/\w.\- :]")
_HASH_LENGTH = 8
_ELLIPSIS = "..."


def chunks(items: list[_T], size: int) -> Iterator[list[_T]]:
    """Yield ``items`` in order, ``size`` at a time: what a request takes."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def batches(
    texts: Mapping[str, str], size: Callable[[str, str], int], limit: int
) -> Iterator[dict[str, str]]:
    """Yield params or tags in order, as many at a time as a request takes.

    The sizes of a request's texts sum up to ``limit`` at most, unless one of them is larger.
    """
    batch: dict[str, str] = {}
    total = 0
    for key, value in texts.items():
        added = size(key, value)
        if batch and (len(batch) == MAX_PARAMS_TAGS_PER_BATCH or total + added > limit):
            yield batch
            batch, total = {}, 0
        batch[key] = value
        total += added
    if batch:
        yield batch


def bare_prefix(prefix: object) -> str:
    """Return ``prefix`` without slashes at its ends. None and slashes alone give an empty text."""
    if isinstance(prefix, str):
        return str.strip(prefix, "/")
    return "" if prefix is None else str(prefix)


def prefixed(prefix: object, items: Iterable[tuple[str, _T]]) -> dict[str, _T]:
    """Return ``items`` under their delivered names: ``val/loss`` for ``loss`` with the prefix ``val``."""
    bare = bare_prefix(prefix)
    return {f"{bare}/{name}": value for name, value in items} if bare else dict(items)


def delivered(prefix: object, items: Iterable[tuple[str, _T]], epoch: _T | None) -> dict[str, _T]:
    """Return ``items`` under their delivered names, with ``epoch`` added unless they have one."""
    named = prefixed(prefix, items)
    if epoch is not None:
        named.setdefault("epoch", epoch)
    return named


def valid_name(name: str, max_length: int = MAX_KEY_LENGTH) -> str:
    """Return ``name`` if MLflow accepts it, otherwise a readable name that it accepts.

    A changed name ends in ``-`` and 8 hexadecimal digits of the original's BLAKE2b, so that two
    names that differ only in what had to go stay two names, the same ones in every process.

    Raises:
        ValueError: ``max_length`` leaves no room for the digits.
    """
    if _is_valid(name, max_length):
        return name
    room = max_length - _HASH_LENGTH - 1
    if room < 1:
        raise ValueError(f"max_length must be at least {_HASH_LENGTH + 2}, not {max_length}")
    readable = _BAD_CHARACTER.sub("_", name)
    segments = [part for part in readable.split("/") if part not in ("", ".", "..")]
    # MLflow refuses every name that starts with two dots, "..a" too.
    readable = "/".join(segments).lstrip(".")[:room]
    return f"{readable or '_'}-{_hash(name)}"


def _is_valid(name: str, max_length: int) -> bool:
    # MLflow matches with "$", which lets one newline at the end through. Stores fail at it.
    if len(name) > max_length or _BAD_CHARACTER.search(name) is not None:
        return False
    normal = posixpath.normpath(name)
    return normal == name and normal != "." and not normal.startswith(("..", "/"))


def _hash(name: str) -> str:
    data = name.encode("utf-8", "surrogatepass")
    return blake2b(data, digest_size=_HASH_LENGTH // 2).hexdigest()


def truncate_params(
    params: Mapping[str, str],
    max_key: int = MAX_KEY_LENGTH,
    max_value: int = MAX_PARAM_VALUE_LENGTH,
) -> tuple[dict[str, str], list[str]]:
    r"""Make params that MLflow accepts. Return them, and the original names of those that changed.

    Keys pass :func:`valid_name`. Values longer than ``max_value`` characters are cut and end in ``...``.
    Distinct keys stay distinct. NUL characters, which PostgreSQL refuses, are spelt ``\\0``.
    """
    result: dict[str, str] = {}
    changed: list[str] = []
    taken = {key for key in params if _is_valid(key, max_key)}
    for key, value in params.items():
        name = key if key in taken else _free_name(key, max_key, taken)
        taken.add(name)
        result[name] = _cut(value, max_value)
        if name != key or result[name] != value:
            changed.append(key)
    return result, changed


def _free_name(key: str, max_length: int, taken: set[str]) -> str:
    """Return the valid name of ``key``, or of a variation if another key has that name."""
    name, attempt = valid_name(key, max_length), 0
    while name in taken:
        attempt += 1
        name = valid_name(f"{key}\0{attempt}", max_length)
    return name


def valid_model_name(name: str) -> str:
    """Return a name that MLflow accepts for a logged model: ``name``, or a similar one."""
    return _BAD_IN_MODELS.sub("-", name)[:MAX_KEY_LENGTH].strip("- ") or "model"


def _cut(value: str, max_length: int) -> str:
    text = value.replace("\0", "\\0")
    if len(text) <= max_length:
        return text
    return text[: max(0, max_length - len(_ELLIPSIS))] + _ELLIPSIS[:max_length]

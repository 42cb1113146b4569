"""Names of files in a run: which ones every destination takes, and a text that says what to do with others.

The rules are MLflow's (``path_not_unique`` in ``mlflow/utils/validation.py``, ``validate_path_is_safe`` in
``mlflow/utils/uri.py``) and those of file systems and of S3. A name is never changed, except that secrets in
it are masked: you find a file under the name that you gave it, or are told that it isn't kept.
"""

from __future__ import annotations

import posixpath
import re
from os import fspath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse, urlunparse

from trackside.errors import ArtifactError
from trackside.redaction.redact import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_NAME_BYTES = 800
"""Of a whole name in UTF-8. S3 takes keys of 1024 bytes, and the run's own folder comes before the name."""

MAX_PART_BYTES = 240
"""Between two slashes. File systems take 255, and a file that is being written may end in a suffix."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DRIVE = re.compile(r"[A-Za-z]:")
_SHOWN = 120


def artifact_file(name: Any) -> str:
    """``name`` as the path of a file below the run's artifacts. Raises :class:`ArtifactError`."""
    text = _text(name)
    if not text:
        raise ArtifactError("the name of the file is empty. Pass one such as 'notes/epoch-3.txt'")
    if text.endswith("/"):
        raise ArtifactError(f"{_shown(text)} names a folder. Add the name of a file")
    return _checked(text)


def artifact_folder(name: Any) -> str:
    """``name`` as a folder below the run's artifacts. None and ``""`` are the topmost, ``""``.

    One slash at the end is left out. Raises :class:`ArtifactError`.
    """
    text = "" if name is None else _text(name)
    return _checked(text.removesuffix("/")) if text else ""


def joined(folder: str, name: str) -> str:
    """The path of ``name`` in ``folder``, both checked, as a checked path. Raises :class:`ArtifactError`."""
    return artifact_file(f"{folder}/{name}" if folder else name)


def names_below(folder: str, names: Sequence[str]) -> list[str | ArtifactError]:
    """The paths of files below ``folder``, which is checked: each as it is kept, or what is wrong with it.

    Looking for secrets costs as much for all of them as for one.
    """
    text = "\n".join(names)
    mask = (lambda name: name) if redact(text) == text else redact
    found: list[str | ArtifactError] = []
    for name in names:
        fault = _fault(f"{folder}/{name}" if folder else name)
        found.append(mask(name) if fault is None else _refused(name, fault))
    return found


def _text(name: Any) -> str:
    try:
        text = fspath(name)
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise ArtifactError(f"the name of a file is a text, not {type(name).__name__}")
    return str.__str__(text)


def _checked(name: str) -> str:
    fault = _fault(name)
    if fault is not None:
        raise _refused(name, fault)
    return redact(name)


def _refused(name: str, fault: str) -> ArtifactError:
    return ArtifactError(f"{_shown(name)} can't be the name of a file in a run: {fault}")


def _fault(name: str) -> str | None:
    """Why ``name`` is refused, and what to do."""
    return _fault_of_path(name) or _fault_of_text(name)


def _fault_of_path(name: str) -> str | None:
    if "\\" in name:
        return "it has a backslash. Separate folders with '/'"
    if name.startswith("/") or _DRIVE.match(name):
        return "it is absolute. Pass a path below the run's artifacts"
    if ".." in name.split("/"):
        return "it leaves the run's artifacts. Remove '..'"
    normal = posixpath.normpath(name)
    if normal == ".":
        return "it is the top of the run's artifacts. Leave the folder out, or pass the name of a file"
    if normal != name or normal.startswith(".."):
        plain = normal.lstrip(".") if normal.startswith("..") else normal
        return f"MLflow takes a plain path only. Write it as {_shown(plain)}"
    return None


def _fault_of_text(name: str) -> str | None:
    if _CONTROL.search(name) or not _is_encodable(name):
        return "it has a character that can't be printed. Remove it"
    if "#" in name:
        return "MLflow's server refuses '#'. Use another character"
    if not _survives_decoding(name):
        return "MLflow's server decodes '%', '?' and ';' in it, and would keep another name. Remove them"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"it is longer than {MAX_NAME_BYTES} bytes. Shorten it"
    if any(len(part.encode()) > MAX_PART_BYTES for part in name.split("/")):
        return f"file systems take no more than {MAX_PART_BYTES} bytes between two slashes. Shorten it"
    return None


def _survives_decoding(name: str) -> bool:
    try:
        return urlunparse(urlparse(unquote(name))) == name and not name.lower().startswith("file:")
    except ValueError:
        return False


def _is_encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(name: str) -> str:
    return repr(redact(name[:_SHOWN]) + ("..." if len(name) > _SHOWN else ""))

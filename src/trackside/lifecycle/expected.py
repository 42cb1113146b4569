"""Exceptions that are not failures: what the program, or a library it uses, means by raising them.

Invariant: nothing is imported to find out. A class given by name is compared by the names of the exception's
own classes, or looked up in modules that are loaded already.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from trackside.errors import ConfigurationError
from trackside.events import FinalStatus, checked_status

if TYPE_CHECKING:
    from typing import Final

ExpectedExceptions: TypeAlias = (
    Mapping[type[BaseException] | str, str] | Iterable[type[BaseException] | str] | None
)
"""What ``start(expected=...)`` takes: classes or dotted names, alone (FINISHED) or each with its status."""

BUILT_IN: Final[dict[type[BaseException] | str, FinalStatus]] = {"optuna.exceptions.TrialPruned": "FINISHED"}
"""A pruned trial did what it was meant to do. Optuna itself counts it among the trials that are complete."""


class Expected:
    """Knows what each exception means: a status, or None for a failure."""

    def __init__(self, given: Mapping[type[BaseException] | str, FinalStatus] | None = None) -> None:
        self._statuses = {**BUILT_IN, **(given or {})}

    def status_of(self, error: BaseException | None) -> FinalStatus | None:
        """The status that ``error`` stands for. A group means something if all its exceptions do."""
        members = getattr(error, "exceptions", None)
        if isinstance(members, tuple) and members:
            found = [self.status_of(member) for member in members]
            return None if None in found else max(found, key=_weight)
        for kind in () if error is None else type(error).__mro__:
            for wanted, status in self._statuses.items():
                if kind is wanted or (isinstance(wanted, str) and _is_named(kind, wanted)):
                    return status
        return None


NOTHING_ELSE = Expected()
"""What is built in."""


def checked_expected(given: ExpectedExceptions) -> Expected:
    """``given`` as one object. Raises :class:`ConfigurationError` that says what to write instead."""
    if given is None:
        return NOTHING_ELSE
    if isinstance(given, (str, type)) or not isinstance(given, Iterable):
        given = (given,)
    items: Iterable[tuple[Any, Any]]
    items = given.items() if isinstance(given, Mapping) else ((kind, "FINISHED") for kind in given)
    return Expected({_checked_class(kind): _checked_meaning(kind, status) for kind, status in items})


def _checked_class(kind: Any) -> type[BaseException] | str:
    if isinstance(kind, type) and issubclass(kind, BaseException) and not issubclass(kind, SystemExit):
        return kind
    if isinstance(kind, str) and all(part.isidentifier() for part in kind.split(".")):
        return kind
    raise ConfigurationError(
        "expected must name exception classes, such as {optuna.TrialPruned: 'FINISHED'} or "
        f"('my_package.StopTraining',), not {kind!r}"
    )


def _checked_meaning(kind: Any, status: Any) -> FinalStatus:
    try:
        return checked_status(status)
    except ValueError as error:
        raise ConfigurationError(f"expected[{kind!r}]: {error}") from error


def _is_named(kind: type, name: str) -> bool:
    if f"{kind.__module__}.{kind.__qualname__}" == name or (kind.__module__, kind.__qualname__) == (
        "builtins",
        name,
    ):
        return True
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(module), attribute, None) is kind


def _weight(status: FinalStatus | None) -> int:
    return ("FINISHED", "KILLED", "FAILED").index(status or "FAILED")

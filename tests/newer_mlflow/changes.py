"""What two versions define differently, of what trackside leans on."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.newer_mlflow.definitions import code_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.newer_mlflow.definitions import Sources
    from tests.newer_mlflow.leaned_on import Leaning

GONE = "gone"
CHANGED = "changed"
NEW = "new"


@dataclass(frozen=True)
class Change:
    """A definition that differs. ``before`` or ``after`` is empty where it does not exist."""

    name: str
    before: str
    after: str
    users: tuple[str, ...]
    """Files of ours that need it, directly or through another definition."""

    @property
    def kind(self) -> str:
        """:data:`GONE`, :data:`NEW` or :data:`CHANGED`."""
        return CHANGED if self.before and self.after else GONE if self.before else NEW

    def diff(self) -> list[str]:
        """The lines that differ, with two around them."""
        lines = difflib.unified_diff(self.before.splitlines(), self.after.splitlines(), n=2, lineterm="")
        return list(lines)[2:]


def compare(before: Sources, after: Sources, leanings: Iterable[Leaning]) -> list[Change]:
    """All differences, by name."""
    old: dict[str, str] = {}
    new: dict[str, str] = {}
    users: dict[str, set[str]] = {}
    for leaning in leanings:
        pair = [code(sources, leaning) for sources in (before, after)]
        for found, texts in zip(pair, (old, new), strict=True):
            texts.update(found)
            for name in found:
                users.setdefault(name, set()).add(leaning.user)
    return [
        Change(name, old.get(name, ""), new.get(name, ""), tuple(sorted(users[name])))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def code(sources: Sources, leaning: Leaning) -> dict[str, str]:
    """The code that ``leaning`` is about, by name."""
    if leaning.how == "followed":
        return sources.reach(leaning.name)
    if leaning.how == "abstract":
        return {f"{leaning.name} (abstract)": "\n".join(sorted(sources.abstract_methods(leaning.name)))}
    place = sources.find(leaning.name)
    return {} if place is None else {place.name: code_of(place.node)}

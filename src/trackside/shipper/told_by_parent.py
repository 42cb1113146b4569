"""What a ``trackside run`` says of the end of a process below it, where the kernel does not tell.

Invariant: a note counts only if this user alone can have written it, and if it is of this very process.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from trackside.journal.opening import MAX_WORD, read_file
from trackside.lifecycle.evidence import UNKNOWN, ExitStatus
from trackside.system.parent_folder import VARIABLE, parent_pid, parse_end
from trackside.system.processes import parent_of_zombie

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.owner import Owner


def told_by_parent(note: Path | None, owner: Owner) -> ExitStatus:
    """How ``owner`` ended, as its parent process has noted it in its journal, in the file ``note``."""
    if note is None:
        return UNKNOWN
    try:
        text = read_file(note, MAX_WORD).decode("ascii", "replace")
    except OSError:
        return UNKNOWN
    return ExitStatus(*parse_end(text, owner.start_ticks))


def will_be_told(owner: Owner) -> bool:
    """Whether the dead process ``owner`` still waits for its parent, a ``trackside run``, to take note."""
    parent = parent_pid(os.environ.get(VARIABLE, ""))
    return parent is not None and parent_of_zombie(owner.pid) == parent

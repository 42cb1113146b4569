"""What the user is told at the end of runs that trackside has not recorded.

Invariants:

* A command that logs nothing gets one plain line, and only if it ended well. A failed one has told its own
  story.
* Nothing is said of ranks that log nothing, nor with ``TRACKSIDE_MODE=disabled``: ``expects_runs`` is False.
"""

from __future__ import annotations

from trackside.parent_process.messages import is_quiet, printable, say
from trackside.system.parent_folder import direct_addresses, is_in_use


def tell_of_unrecorded(folder: str, status: int, *, expects_runs: bool) -> None:
    """Tell which runs went past trackside, or that nothing used it. ``status``: the command's wait status."""
    direct = direct_addresses(folder)
    for one in direct:
        say(f"runs went {printable(one.explained)}")
    if expects_runs and status == 0 and not direct and not is_in_use(folder) and not is_quiet():
        say(
            "nothing was logged through trackside. If your program gives MLflow an address of its own, write "
            "journal+ before it"
        )

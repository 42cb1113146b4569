"""``python -I -S .../parent_process GRACE EXPECTS COMMAND...``: what ``trackside run`` becomes by ``exec``.

The package ``trackside`` imports msgspec, which this process has no use for. So a bare module stands in for
it: its submodules are found, and its ``__init__`` does not run.
"""

import os
import signal
import sys
import types


def _main() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C before the command runs: no traceback
    package = types.ModuleType("trackside")
    package.__path__ = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    sys.path.pop(0)  # this folder, whose modules are imported by their full names
    sys.modules["trackside"] = package
    from trackside.parent_process.parent import run
    from trackside.system.coerced_locale import drop_coerced_locale

    drop_coerced_locale(os.environ)
    run(sys.argv[3:], grace=float(sys.argv[1]), expects_runs=sys.argv[2] == "1")


if __name__ == "__main__":
    _main()

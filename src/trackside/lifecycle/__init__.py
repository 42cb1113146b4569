"""How a process ends: what sees exceptions, signals and exits, and what a run's status becomes.

Both public names are loaded when first used: the shipper judges a run's end with this package and has no bus.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trackside.lifecycle.hooks import ProcessHooks
    from trackside.lifecycle.subscriber import LifecycleSubscriber

__all__ = ["LifecycleSubscriber", "ProcessHooks"]

_MODULES = {"LifecycleSubscriber": "subscriber", "ProcessHooks": "hooks"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)

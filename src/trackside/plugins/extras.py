"""What to say when an optional package is not installed."""

from __future__ import annotations

from trackside.errors import ConfigurationError

__all__ = ["missing_extra"]


def missing_extra(what: str, extra: str, error: ImportError) -> ConfigurationError:
    """The error to raise from ``error``: ``what`` needs a package that the ``extra`` brings."""
    return ConfigurationError(f"{what} needs a package ({error}): pip install 'trackside[{extra}]'")

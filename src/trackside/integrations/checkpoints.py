"""The option ``log_checkpoints`` of the integrations that can log the checkpoints a framework saves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from trackside.errors import ConfigurationError

if TYPE_CHECKING:
    from trackside.artifact_events import UploadPolicy

LogCheckpoints: TypeAlias = 'bool | Literal["latest", "end"]'
"""False: none. True: each. ``latest``, ``end``: the policies of :func:`trackside.log_checkpoint`."""


def checkpoint_policy(option: LogCheckpoints) -> UploadPolicy | None:
    """The policy to log checkpoints by. None if they are not logged."""
    if option is False or option is None:
        return None
    if option is True:
        return "now"
    if option in ("latest", "end"):
        return option
    raise ConfigurationError(f'log_checkpoints={option!r} is not known. Pass False, True, "latest" or "end"')

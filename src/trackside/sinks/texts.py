"""Configurations, params and tags on their way into the journal: masked, and told when they are lost.

Invariants:

* Nothing is raised, whatever a value or the journal raises.
* No secret reaches the journal, and none that is masked here is told elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.errors import CoercionError
from trackside.journal.format import ConfigRecord, ParamsRecord, TagsRecord
from trackside.lifecycle.crash import text_of
from trackside.params import flatten_params, to_plain
from trackside.redaction.known_values import know
from trackside.redaction.redact import redact_config, redact_mapping, secrets_among
from trackside.sinks.odd_values import MAX_REPR, brief, encodable_text, milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trackside.events import ConfigEvent
    from trackside.journal.writer import JournalWriter

_MAX_TEXT = 200


class TextKeeper:
    """Keeps what is no metric in ``journal``.

    ``warn(subject, text, once_for=...)`` tells the user once for each ``once_for``, or else each subject.
    """

    def __init__(self, journal: JournalWriter, *, warn: Callable[..., None]) -> None:
        self._journal = journal
        self._warn = warn

    def keep_config(self, event: ConfigEvent) -> None:
        """Keep a configuration, masked, as plain data and flat."""
        try:
            plain = to_plain(event.config)
            document = redact_config(plain)
            know(secrets_among(plain))  # an exception may quote what the configuration holds
            params = flatten_params(event.config, max_depth=self._depth(event.flatten_depth))
            self._journal.append(ConfigRecord(0, event.timestamp_ms, params, document))
        except CoercionError as error:
            self._warn("a config", f"is not logged: {error}")
        except Exception as error:
            self._warn("a config", f"is not logged: {_told(error)}")

    def keep_params(self, params: Mapping[str, str], timestamp_ms: int | None) -> bool:
        """Keep params that are no configuration, masked. Returns whether they are in the journal."""
        try:
            texts = _copy_of(params)
            masked = redact_config(texts)
            if masked != texts:  # an exception may quote what they hold
                know(secrets_among(texts))
            return self._keep("a param", ParamsRecord(0, milliseconds(timestamp_ms), masked))
        except Exception as error:
            return self._lose("a param", _told(error))

    def keep_tags(self, tags: Mapping[str, str], timestamp_ms: int | None) -> bool:
        """Keep tags, masked. Returns whether they are in the journal."""
        try:
            texts = redact_mapping(_copy_of(tags))
            return self._keep("a tag", TagsRecord(0, milliseconds(timestamp_ms), texts))
        except Exception as error:
            return self._lose("a tag", _told(error))

    def _keep(self, what: str, record: ParamsRecord | TagsRecord) -> bool:
        if not record.texts or self._journal.append(record):
            return True
        return self._lose(what, "the journal does not take it")

    def _lose(self, what: str, reason: str) -> bool:
        self._warn(what, f"is lost: {reason[:_MAX_TEXT]}", once_for=f"{what}: {reason[:MAX_REPR]}")
        return False

    def _depth(self, depth: Any) -> int | None:
        if depth is None or (isinstance(depth, int) and depth >= 0):
            return depth
        self._warn(
            "a config", f"is flattened by 1 level, not {brief(depth)}. flatten_depth is an int or None"
        )
        return 1


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {text_of(error)}"


def _copy_of(texts: Mapping[str, str]) -> dict[str, str]:
    """A copy that can be encoded, whatever is in ``texts``."""
    return {encodable_text(key): encodable_text(value) for key, value in [*texts.items()]}

"""A run's configuration in MLflow: params, which can be set once only, and an artifact with all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.destinations.mlflow.changed_params import some_of
from trackside.errors import RejectedError, RetryableError
from trackside.names import MAX_PARAMS_TAGS_PER_BATCH, chunks, truncate_params
from trackside.text import utc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trackside.destinations.mlflow.changed_params import ChangedParams
    from trackside.destinations.mlflow.connection import Connection
    from trackside.journal.format import ConfigRecord
    from trackside.journal.outbox import Outbox

MOST_IN_A_ROW = 16
"""Twice what it takes to find a bad param among 100."""

MOST_REFUSALS = 200


class _Refusals:
    """Requests with params of one configuration that were refused, and the params that were never taken.

    A bad param among good ones is found by halving. A limit on the number of params refuses everything from
    some param on. So after :data:`MOST_IN_A_ROW` refusals with no success in between, the rest is not tried.
    """

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.first: RejectedError | None = None
        self.in_a_row = self._total = 0

    @property
    def is_spent(self) -> bool:
        """Whether to try no more."""
        return self.in_a_row >= MOST_IN_A_ROW or self._total >= MOST_REFUSALS

    def note(self, error: RejectedError) -> None:
        """Count a request that was refused."""
        self.first = self.first or error
        self.in_a_row += 1
        self._total += 1


class ConfigWriter:
    """Writes configurations to a run: new params logged, equal ones skipped, changed ones kept and noted.

    ``name`` is that of the artifact with the whole configuration. With ``only_if_new`` it is written only if
    the run does not have all of that configuration already.
    """

    def __init__(
        self,
        connection: Connection,
        changed: ChangedParams,
        outbox: Outbox,
        *,
        name: str,
        notice: Callable[[str], None],
        only_if_new: bool = False,
    ) -> None:
        self._connection = connection
        self._changed = changed
        self._outbox = outbox
        self._name = name
        self._notice = notice
        self._document: dict[str, Any] = {}
        self._kept = self._told = False
        self._wanted = not only_if_new

    def write(self, record: ConfigRecord) -> None:
        """Deliver ``record``. May be called again with the same one."""
        _merge(self._document, record.document)
        self._kept = False
        self.keep_document()
        params, cut = truncate_params(record.params)
        if cut:
            self._notice(f"params cut or renamed for MLflow, whole in {self._name}: {some_of(cut)}")
        known = self._connection.known_params()
        if cut or any(known.get(key) != value for key, value in params.items()):
            self._wanted = True
            self.keep_document()
        new = [(key, value) for key, value in params.items() if key not in known]
        budget = _Refusals()
        for chunk in chunks(new, MAX_PARAMS_TAGS_PER_BATCH):
            self._log(chunk, budget)
        if new:
            self._check_params(key for key, _ in new if key not in set(budget.refused))
        if budget.refused:
            share = f"{len(budget.refused)} of {len(new)} params ({some_of(budget.refused)})"
            self._notice(f"the server refused {share}: {budget.first}. {self._name} has all of them")
        changed = {key: value for key, value in params.items() if known.get(key, value) != value}
        self._changed.note(changed)

    def _check_params(self, logged: Iterable[str]) -> None:
        """Read them back, because a proxy may have answered in MLflow's place."""
        known = self._connection.known_params()
        missing = [key for key in logged if key not in known]
        if missing:
            raise RetryableError(f"params were logged, and the run does not show them: {some_of(missing)}")

    def keep_document(self) -> None:
        """Put the document into the outbox, unless it is there.

        On a full disk the next call tries again. Waiting for room would block the points that follow, and
        their segments on that disk could not be deleted.
        """
        if self._kept or not self._wanted:
            return
        try:
            self._outbox.put(self._name, _to_yaml(self._document))
        except OSError as error:
            if not self._told:
                self._notice(f"{self._name} can't be kept for its upload, and is tried again: {error}")
            self._told = True
        except (ValueError, TypeError, RecursionError) as error:  # it would fail every time
            self._notice(f"{self._name} can't be written as YAML, and the run will not have it: {error}")
            self._kept = True
        else:
            self._kept = True

    def _log(self, params: list[tuple[str, str]], budget: _Refusals) -> None:
        """Log ``params``. If they are refused, log the halves, as long as ``budget`` lasts."""
        if budget.is_spent:
            budget.refused += [key for key, _ in params]
            return
        try:
            self._connection.log_params(dict(params))
        except RejectedError as error:
            budget.note(error)
            if len(params) == 1:
                budget.refused.append(params[0][0])
                return
            middle = len(params) // 2
            self._log(params[:middle], budget)
            self._log(params[middle:], budget)
        else:
            budget.in_a_row = 0


def artifact_name(*, resumed: bool, started_ms: int) -> str:
    """``config.yaml``, or for a resumed run a name that tells the attempts apart."""
    if not resumed:
        return "config.yaml"
    return f"config.resumed-{utc(started_ms):%Y%m%dT%H%M%SZ}.yaml"


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _to_yaml(document: dict[str, Any]) -> str:
    import yaml  # MLflow brings it

    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))

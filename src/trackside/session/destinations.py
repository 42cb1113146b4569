"""Which destinations ``start()`` was asked for, on this rank, as the journal keeps them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from trackside.destinations import registry
from trackside.errors import CoercionError, ConfigurationError
from trackside.journal import lossless_json
from trackside.journal.meta import NAME, DestinationSpec
from trackside.params import to_plain
from trackside.redaction.redact import redact_config
from trackside.transform import Transform, make_transform

MLFLOW = "mlflow"
"""Kind and name of the run's own destination."""


class DestinationPlan(NamedTuple):
    """What is delivered to from this rank. ``secrets``: whole options, by name, of specs that were masked."""

    mlflow: bool
    mlflow_transform: Transform | None
    specs: tuple[DestinationSpec, ...]
    secrets: dict[str, dict[str, Any]]

    @property
    def empty(self) -> bool:
        """Whether this rank delivers nothing."""
        return not (self.mlflow or self.specs)


RUN_ONLY = DestinationPlan(mlflow=True, mlflow_transform=None, specs=(), secrets={})
"""The MLflow run and nothing beside it."""


def plan_destinations(given: Iterable[Any], rank: int, also: Iterable[Any] = ()) -> DestinationPlan:
    """Check ``given`` and leave out what other ranks deliver to.

    ``also``: what the environment names beside them. An equal entry counts once.
    Each is a kind (``"tensorboard"``) or a mapping with its ``type``, its options, and if wanted a ``name``
    and a ``transform``. ``{"type": "mlflow", "transform": ...}`` without a ``tracking_uri`` transforms what
    the run itself gets. Raises :class:`ConfigurationError`, also for what another rank would deliver to: a
    mistake stops all ranks, not one of them.
    """
    if isinstance(given, (str, Mapping)):
        raise ConfigurationError("destinations must be a list, such as ['tensorboard'], even for one")
    try:
        wanted = [_plain(one) for one in given]
    except TypeError as error:
        raise ConfigurationError(
            f"destinations must be a list, such as ['tensorboard'], not {type(given).__name__}"
        ) from error
    named = [*wanted]
    wanted += [plain for one in also if (plain := _plain(one)) not in named]
    mlflow_transform: Transform | None = None
    specs: list[DestinationSpec] = []
    secrets: dict[str, dict[str, Any]] = {}
    names = {MLFLOW}
    for options in wanted:
        kind = str(options.pop("type"))
        transform = make_transform(options.pop("transform", None))
        if kind == MLFLOW and "tracking_uri" not in options:
            mlflow_transform = _run_transform(options, transform)
            continue
        name = _name(options.pop("name", None), kind, names)
        registry.check(kind, options)
        spec = _spec(name, kind, options, transform)
        if (transform or Transform()).wants_rank(rank):
            specs.append(spec)
            if spec.options != options:
                secrets[name] = options
    return DestinationPlan(rank == 0, mlflow_transform, tuple(specs), secrets)


def _plain(one: Any) -> dict[str, Any]:
    """One entry as a mapping of its own."""
    if isinstance(one, str):
        return {"type": one}
    try:
        plain = to_plain(one)
    except CoercionError as error:
        raise ConfigurationError(
            f"a destination is a name such as 'tensorboard' or a mapping, not {type(one).__name__}"
        ) from error
    if not isinstance(plain.get("type"), str):
        raise ConfigurationError(
            f"a destination needs a type, such as {{'type': 'tensorboard'}}. This one has {sorted(plain)}"
        )
    return plain


def _run_transform(options: dict[str, Any], transform: Transform | None) -> Transform | None:
    if options:
        raise ConfigurationError(
            f"destination 'mlflow' has {', '.join(sorted(options))} and no tracking_uri. For a second "
            "server, give its tracking_uri. Without one it is the run itself, which takes only a transform "
            "here: its name, experiment and tags are arguments of start()"
        )
    if transform is not None and transform.ranks not in {None, (0,)}:
        raise ConfigurationError("the MLflow run is logged from rank 0: its transform takes no ranks")
    return transform


def _name(wanted: Any, kind: str, taken: set[str]) -> str:
    """A name for the cursor that no other destination has."""
    if wanted is not None:
        name = str(wanted)
        if not NAME.fullmatch(name):
            raise ConfigurationError(f"a destination's name has letters, digits and dashes only: {name!r}")
        if name in taken:
            raise ConfigurationError(f"two destinations are named {name!r}: give one another name")
    else:
        last = re.split(r"[.:]", kind)[-1]
        stem = re.sub(r"[^A-Za-z0-9]+", "-", last).strip("-").lower()[:50] or "destination"
        numbered = (f"{stem}-{number}" for number in itertools.count(2))
        name = next(n for n in itertools.chain([stem], numbered) if n not in taken)
    taken.add(name)
    return name


def _spec(name: str, kind: str, options: dict[str, Any], transform: Transform | None) -> DestinationSpec:
    masked = redact_config(options)
    try:
        lossless_json.encode(options)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"destination {name!r}: its options can't be kept: {error}") from error
    return DestinationSpec(name=name, kind=kind, options=masked, transform=transform)

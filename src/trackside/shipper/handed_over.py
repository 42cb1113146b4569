"""What delivering a journal would do, in words.

You read it before a journal that may be another user's work is used.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from trackside.destinations.mlflow.run_id_file import RUN_ID_FILE
from trackside.destinations.registry import is_dotted
from trackside.errors import ConfigurationError
from trackside.journal import lossless_json
from trackside.journal.outbox import Outbox
from trackside.redaction.forms import mask_address
from trackside.redaction.redact import redact_config
from trackside.shipper.sync import gets_credentials

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from trackside.journal.directory import JournalDirectory
    from trackside.journal.meta import DestinationSpec, Meta


def effects(
    journal: JournalDirectory, meta: Meta, *, tracking_uri: str | None, importable: Collection[str]
) -> list[str]:
    """One sentence for each thing that leaves the journal, or is written outside it."""
    told = [f"It says that process {meta.owner.pid} on {meta.owner.host} made it."]
    if meta.mlflow:
        told.append(_mlflow(meta, tracking_uri))
        if tracking_uri is None:
            given = gets_credentials(journal, meta, tracking_uri)
            told.append(f"Your credentials are {'sent there' if given else 'not sent there'}.")
        told += _files(journal)
    if meta.target.checkpoint_dir is not None:
        told.append(f"It writes the run's id into {Path(meta.target.checkpoint_dir, RUN_ID_FILE)}.")
    told += [_destination(spec, importable) for spec in meta.destinations]
    if meta.destinations:
        told.append(f"Relative paths of its destinations start in {meta.working_directory}.")
    told += [f"It waits for the journal {path}." for path in meta.after]
    return told


def links_in(journal: JournalDirectory) -> list[str]:
    """Links and other entries that no journal has, by their path in it. Don't trust one that has any."""
    return sorted(
        os.path.relpath(entry.path, journal.path)
        for entry in _entries(journal.path)
        if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False))
    )


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    for entry in os.scandir(folder):
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path))


def _mlflow(meta: Meta, tracking_uri: str | None) -> str:
    address = tracking_uri or meta.target.tracking_uri
    named = meta.target.run_id
    run = f"run {named}" if named is not None else f"a run of experiment {meta.target.experiment_name or '-'}"
    return f"It sends metrics, params and the status to MLflow at {mask_address(address)}, into {run}."


def _files(journal: JournalDirectory) -> list[str]:
    names = [path.name for path in Outbox(journal.path).pending()]
    return [f"It uploads {', '.join(names)}."] if names else []


def _destination(spec: DestinationSpec, importable: Collection[str]) -> str:
    options = lossless_json.encode(redact_config(spec.options)).decode()
    if not _is_code(spec.kind):
        return f"It delivers to {spec.kind} with {options}."
    if spec.kind in importable:
        return f"It imports {spec.kind}, and calls it with {options}."
    return f"It does not import {spec.kind}: that needs --allow-import {spec.kind}."


def _is_code(kind: str) -> bool:
    try:
        return is_dotted(kind)
    except ConfigurationError:  # of a kind that is not installed here
        return False

"""What import-linter cannot say: the pure modules stay away from parts of the standard library."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import trackside

PACKAGE = Path(trackside.__file__).parent

PURE = [
    "artifact_calls",
    "artifact_events",
    "artifact_names",
    "bulk_store/versions",
    "coerce/floats",
    "coerce/metrics",
    "coerce/large_means",
    "coerce/steps",
    "errors",
    "events",
    "journal/delivery_status",
    "journal/file_counts",
    "journal/format",
    "journal/layouts",
    "journal_store/address",
    "lifecycle/evidence",
    "lifecycle/kept_events",
    "lifecycle/verdict",
    "destinations/mlflow/batch_body",
    "destinations/mlflow/tracking",
    "destinations/mlflow/used_datasets",
    "names",
    "params",
    "protocols",
    "redaction/forms",
    "redaction/known_values",
    "redaction/names",
    "redaction/redact",
    "shipper/artifact_schedule",
    "shipper/batches",
    "shipper/parts",
    "shipper/retry",
    "shipper/rhythm",
    "shipper/transformed",
    "system/journal_address",
    "tag_names",
    "text",
    "transform",
]

# Clocks, threads, processes, sockets and disks.
IMPURE = {
    "asyncio",
    "concurrent",
    "datetime",
    "io",
    "mmap",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "select",
    "selectors",
    "shutil",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "time",
}

ALLOWED = {
    "artifact_names": {"os"},  # os.fspath: no disk is asked
    "artifact_calls": {"os"},  # os.PathLike: the type of a path
    "protocols": {"pathlib"},  # the type of a parameter
    "destinations/mlflow/tracking": {"pathlib"},  # the same
    "events": {"datetime", "time"},  # the default timestamp is the moment of the emit
    "redaction/known_values": {"os"},  # the environment, where the secrets are
    "text": {"datetime"},  # a time that is given, as text: no clock is asked
    "params": {"os"},  # os.PathLike: a path in a config is written as its text
}


def imported(tree: ast.Module) -> set[str]:
    """Top-level names of the modules that the code imports, anywhere in it, `TYPE_CHECKING` too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.wheel
@pytest.mark.parametrize("module", PURE)
def test_pure_modules_import_no_clock_thread_or_disk(module: str) -> None:
    """A pure module can be tested without fakes, because it has nothing to fake."""
    path = PACKAGE / f"{module}.py"
    tree = ast.parse(path.read_text("utf-8"))
    assert imported(tree) & IMPURE - ALLOWED.get(module, set()) == set()
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert "open" not in names

"""``python -m tests.newer_mlflow [VERSION]``: what a version of MLflow changes for trackside.

Exit code 0 if nothing differs and the tests pass, 1 if there is something to look at.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
from packaging.version import Version

from tests.newer_mlflow import sources, tables, trial
from tests.newer_mlflow.changes import Change, compare
from tests.newer_mlflow.definitions import Sources
from tests.newer_mlflow.leaned_on import LEANED_ON
from trackside.bulk_store.versions import NEWEST, why_unsupported


@click.command()
@click.argument("version", default="")
@click.option("--against", default="", help="Compare with this one, not the newest supported.")
@click.option("--full", is_flag=True, help="Print every line that differs, not 30 a definition.")
@click.option("--try", "tries", is_flag=True, help="Install it into .venv-newer-mlflow and run the tests.")
@click.option("--ask", is_flag=True, help="Only say whether a newer version than supported is out.")
def main(version: str, against: str, full: bool, tries: bool, ask: bool) -> None:
    """Compare MLflow VERSION (the newest one if left out) with the newest that trackside supports.

    Only what trackside leans on is compared: the list is in tests/newer_mlflow/leaned_on.py.
    """
    versions = sources.published()
    newest = versions[0]
    if ask or not version:
        print(_news(newest))
    if ask:
        return
    candidate = Version(version) if version else newest
    base = Version(against) if against else _newest_supported(versions, candidate)
    found = _compare(base, candidate, lines=None if full else 30)
    passed = _try(candidate) if tries else None
    print(f"\n{_verdict(candidate, found, passed=passed)}")
    sys.exit(bool(found) or passed is False)


def _news(newest: Version) -> str:
    if why_unsupported(str(newest)) is None:
        return f"MLflow {newest} is the newest version, and the bulk store supports it."
    return f"MLflow {newest} is out, and the bulk store supports {NEWEST} at most. Run make newer-mlflow"


def _newest_supported(versions: list[Version], before: Version) -> Version:
    return max(v for v in versions if v < before and why_unsupported(str(v)) is None)


def _compare(base: Version, candidate: Version, *, lines: int | None) -> int:
    """Print what differs, and return how much needs a look."""
    print(f"MLflow {base} -> {candidate}")
    with tempfile.TemporaryDirectory(prefix="newer-mlflow-") as folder:
        before, after = (sources.fetch(version, Path(folder)) for version in (base, candidate))
        changes = compare(Sources(before), Sources(after), LEANED_ON)
        for change in changes:
            _print_change(change, lines)
        return len(changes) + _compare_tables(before, after)


def _print_change(change: Change, lines: int | None) -> None:
    print(f"\n{change.kind.upper()} {change.name}\n  needed by {', '.join(change.users)}")
    diff = change.diff()
    print(*(f"    {line}" for line in diff[:lines]), sep="\n")
    if lines is not None and len(diff) > lines:
        print(f"    ... {len(diff) - lines} lines more: --full")


def _compare_tables(before: Path, after: Path) -> int:
    migrations = tables.new_migrations(before, after)
    touching = [migration for migration in migrations if migration.tables]
    print(f"\nMigrations: {len(migrations)} new, {len(touching)} name a table that the bulk store writes")
    for migration in touching:
        print(f"  {migration.name}: {', '.join(migration.tables)}")
    made = [tables.schema(place) for place in (before, after)]
    for schema in made:
        if isinstance(schema, str):
            print(f"Tables: could not be made in this environment ({schema}). --try makes them in the tests")
            return len(touching) + 1
    differences = tables.schema_changes(*made)  # type: ignore[arg-type]
    print("Tables:", "the same" if not differences else "")
    print(*(f"  {line}" for line in differences), sep="\n", end="\n" if differences else "")
    return len(touching) + len(differences)


def _try(candidate: Version) -> bool:
    print(f"\nInstalling MLflow {candidate} into {trial.ENVIRONMENT} (minutes)", flush=True)
    trial.install(candidate)
    return trial.run_tests()


def _verdict(candidate: Version, found: int, *, passed: bool | None) -> str:
    tests = {
        True: "The tests pass with it.",
        False: "TESTS FAIL with it. Mend them before anything else.",
        None: "No tests were run: add --try.",
    }[passed]
    if found:
        look = f"LOOK: {found} differences. For each, read the file that needs it: is it still right?"
    else:
        look = "SAME: nothing that trackside leans on differs."
    todo = (
        f"If all is well, edit\n"
        f"  src/trackside/bulk_store/versions.py  NEWEST = {candidate.major}.{candidate.minor}\n"
        f"  .ci/lock                              mlflow={candidate}, then make lock\n"
        f"  docs/bulk-store.md, CHANGELOG.md      the versions they name"
    )
    return f"{look}\n{tests}" + ("" if passed is False else f"\n{todo}")


if __name__ == "__main__":
    main()

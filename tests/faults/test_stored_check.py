"""What MLflow's own client has uploaded is looked at: it is there, and the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from trackside.destinations.mlflow import stored_check
from trackside.destinations.mlflow.stored_check import check_stored
from trackside.errors import RetryableError

if TYPE_CHECKING:
    from pathlib import Path


class Elsewhere:
    """A repository that is no folder. ``files``: what its lists show."""

    def __init__(self, **files: int | None) -> None:
        self._files = [SimpleNamespace(path=f"w/{name}", file_size=size) for name, size in files.items()]
        self.asked: list[str | None] = []

    def list_artifacts(self, path: str | None) -> list[Any]:
        self.asked.append(path)
        return self._files


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of more than one piece."""
    path = tmp_path / "held"
    path.write_bytes(b"x" * 1_500_000)
    return path


def test_a_copy_in_a_folder_is_compared(source: Path, tmp_path: Path) -> None:
    """A byte that differs is found, and so is one that is missing."""
    repository = LocalArtifactRepository(str(tmp_path / "store"))
    copy = tmp_path / "store" / "w" / "a b=c.pt"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(source.read_bytes())
    check_stored(repository, source, "w/a b=c.pt")
    copy.write_bytes(b"x" * 1_499_999 + b"y")
    with pytest.raises(RetryableError, match="its copy differs"):
        check_stored(repository, source, "w/a b=c.pt")
    copy.write_bytes(b"x" * 1_499_999)
    with pytest.raises(RetryableError, match="has 1500000 bytes, and the run shows 1499999"):
        check_stored(repository, source, "w/a b=c.pt")


def test_of_a_huge_copy_only_the_size_is_compared(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To read it again would take it from the disk, which the training needs."""
    monkeypatch.setattr(stored_check, "COMPARED", 1000)
    repository = LocalArtifactRepository(str(tmp_path / "store"))
    (tmp_path / "store").mkdir(exist_ok=True)
    (tmp_path / "store" / "ckpt.pt").write_bytes(b"y" * 1_500_000)
    check_stored(repository, source, "ckpt.pt")


def test_elsewhere_the_size_is_looked_up(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the list of its folder. Some stores show no sizes, and some can be written and not listed."""
    for size in (1_500_000, None):
        store = Elsewhere(other=1, **{"ckpt.pt": size})
        check_stored(store, source, "w/ckpt.pt")
        assert store.asked == ["w"]
    with pytest.raises(RetryableError, match="the run shows 20 of them"):
        check_stored(Elsewhere(**{"ckpt.pt": 20}), source, "w/ckpt.pt")
    with pytest.raises(RetryableError, match="the run does not show it"):
        check_stored(Elsewhere(), source, "w/ckpt.pt")
    check_stored(SimpleNamespace(), source, "w/ckpt.pt")
    small = Elsewhere()
    monkeypatch.setattr(stored_check, "LISTED", 2_000_000)
    check_stored(small, source, "w/ckpt.pt")
    assert small.asked == []

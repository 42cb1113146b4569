"""Names of files in a run."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackside.artifact_names import artifact_file, artifact_folder, joined, names_below
from trackside.errors import ArtifactError

GOOD = [
    "notes.txt",
    "a/b/c.json",
    "epoch 3/step=100, lr 0.1.txt",
    "größe/图.png",
    "100%.txt",
    ".hidden",
    "a..b",
    "step:3.txt",
    "what?x=1",
]

BAD = {
    "": "empty",
    "/etc/passwd": "absolute",
    "C:/x": "absolute",
    "..": "leaves",
    "a/../b": "leaves",
    "a\\b": "backslash",
    "./a": "'a'",
    "a//b": "'a/b'",
    "..a": "plain path",
    ".": "Leave the folder out",
    "./.hidden": "'.hidden'",
    "a/": "folder",
    "a\0b": "printed",
    "a\nb": "printed",
    "a\udc80b": "printed",
    "a#b": "#",
    "a%2e%2e/b": "decodes",
    "%252e%252e/b": "decodes",
    "a%41": "decodes",
    "a?": "decodes",
    "file:x": "decodes",
    "x" * 241: "240 bytes",
    "é" * 121: "240 bytes",
    "/".join(["x" * 200] * 5): "800 bytes",
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name_stays_as_it_is(name: str) -> None:
    """What every destination takes is not changed."""
    assert artifact_file(name) == name
    assert artifact_folder(name) == name


@pytest.mark.parametrize(("name", "word"), BAD.items(), ids=[repr(name)[:30] for name in BAD])
def test_a_bad_name_is_refused_with_advice(name: str, word: str) -> None:
    """Names that would leave the run, or that a store refuses or changes, raise and say what to do."""
    with pytest.raises(ArtifactError, match=word.replace("?", r"\?")):
        artifact_file(name)


@pytest.mark.parametrize("name", [None, 3, b"a.txt", ["a"]])
def test_what_is_no_text_is_refused(name: object) -> None:
    """The type that was given is named."""
    with pytest.raises(ArtifactError, match=type(name).__name__):
        artifact_file(name)


def test_a_folder_may_be_left_out_or_end_in_a_slash() -> None:
    """The topmost folder has no name, and one slash at the end means nothing."""
    assert (artifact_folder(None), artifact_folder(""), artifact_folder("a/b/")) == ("", "", "a/b")
    assert artifact_file(PurePosixPath("a/b")) == "a/b"


def test_a_file_in_a_folder_is_checked_as_a_whole() -> None:
    """Two names that are fine may be too long together."""
    assert (joined("", "a"), joined("b", "a")) == ("a", "b/a")
    with pytest.raises(ArtifactError, match="800 bytes"):
        joined("/".join(["x" * 200] * 4), "y.txt")


def test_secrets_in_a_name_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name leaves the process as every text does."""
    monkeypatch.setenv("SERVICE_TOKEN", "abcdefghijklmnop1234")
    assert "abcdefghijklmnop1234" not in artifact_file("logs/abcdefghijklmnop1234.txt")


@given(st.text(max_size=30))
def test_any_text_is_taken_as_it_is_or_refused(name: str) -> None:
    """Nothing but ArtifactError is raised, and MLflow's rule for paths holds for what is taken."""
    from mlflow.utils.uri import validate_path_is_safe
    from mlflow.utils.validation import path_not_unique

    try:
        taken = artifact_file(name)
    except ArtifactError:
        return
    assert not path_not_unique(taken)
    assert validate_path_is_safe(taken) == taken


def test_many_names_at_once_are_checked_as_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below their folder, in order, and masked where one of them holds a secret."""
    bad = [name for name in BAD if name]
    checked = names_below("", [*GOOD, *bad])
    assert checked[: len(GOOD)] == GOOD
    assert [type(found) for found in checked[len(GOOD) :]] == [ArtifactError] * len(bad)
    assert names_below("a/b", GOOD) == GOOD
    (too_long,) = names_below("a/" * 300 + "b", ["x" * 240])
    assert "longer than" in str(too_long)
    monkeypatch.setenv("SERVICE_TOKEN", "abcdefghijklmnop1234")
    plain, masked = names_below("a", ["b.txt", "abcdefghijklmnop1234.txt"])
    assert plain == "b.txt"
    assert "abcdefghijklmnop1234" not in str(masked)

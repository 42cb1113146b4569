from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

from trackside.journal import files
from trackside.journal.files import make_private_directory, read_json, write_atomically, write_even_when_full
from trackside.system.files import write_all

if TYPE_CHECKING:
    from pathlib import Path


def mode(path: Path) -> int:
    """The permission bits of ``path``."""
    return path.stat().st_mode & 0o777


def no_space(*_: object, **__: object) -> int:
    """Stand in for a call on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def open_umask():
    """A umask that takes no permission away."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_everything_made_is_private_under_any_umask(tmp_path: Path) -> None:
    """Directories, those above them too, are 0700 and files 0600 even under umask 0."""
    directory = tmp_path / "a" / "b" / "c"
    make_private_directory(directory)
    write_atomically(directory / "file", b"x")
    assert [mode(p) for p in (directory.parent.parent, directory.parent, directory)] == [0o700] * 3
    assert mode(directory / "file") == 0o600


def test_directory_that_exists_is_left_alone(tmp_path: Path) -> None:
    """A directory of the user's keeps its permissions."""
    tmp_path.chmod(0o755)
    make_private_directory(tmp_path)
    assert mode(tmp_path) == 0o755


@pytest.mark.parametrize("durable", [False, True])
def test_file_is_replaced_whole(tmp_path: Path, durable: bool) -> None:
    """A shorter text leaves nothing of a longer one, and no temporary file stays."""
    path = tmp_path / "file"
    write_atomically(path, b"long long ago", durable=durable)
    write_atomically(path, b"short", durable=durable)
    assert path.read_bytes() == b"short"
    assert list(tmp_path.iterdir()) == [path]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that takes three bytes at a time gets all of them in the end."""
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:3], offset))
    write_atomically(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the midst of writing changes nothing and leaves nothing behind."""
    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "pwrite", no_space)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_threads_that_write_one_file_do_not_mix(tmp_path: Path) -> None:
    """However many threads replace a file, it always is one of the texts, whole."""
    path = tmp_path / "file"
    texts = [bytes([65 + n]) * (1000 + 100 * n) for n in range(4)]
    seen = set()

    def work(text: bytes) -> None:
        for _ in range(50):
            write_atomically(path, text)
            seen.add(path.read_bytes())

    threads = [threading.Thread(target=work, args=[text]) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen <= set(texts)
    assert list(tmp_path.iterdir()) == [path]


def test_vanished_directory_is_an_os_error(tmp_path: Path) -> None:
    """Writing where the directory is gone says so and makes no directory."""
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "gone" / "file", b"x")
    assert not (tmp_path / "gone").exists()


def test_full_disk_overwrites_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no new file can be made, the old one's blocks take the text; it stays readable JSON."""
    path = tmp_path / "file.json"
    write_even_when_full(path, msgspec.json.encode({"text": "long long ago"}))
    monkeypatch.setattr(files, "write_atomically", no_space)
    write_even_when_full(path, b"[1]", durable=True)
    assert read_json(path, list[int]) == [1]


def test_full_disk_without_room_in_place_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that outgrows the old file's blocks leaves the old one as it was."""
    path = tmp_path / "file.json"
    write_atomically(path, b"[1]")
    monkeypatch.setattr(files, "write_atomically", no_space)
    with pytest.raises(OSError, match="No space"):
        write_even_when_full(path, b"[" + b" " * 100_000 + b"]")
    with pytest.raises(OSError, match="No space"):
        write_even_when_full(tmp_path / "new.json", b"[]")
    assert path.read_bytes() == b"[1]"


@pytest.mark.parametrize("text", [b"", b"{", b'"text"', b"\xff", b"[" * 100_000, None])
def test_what_is_not_readable_is_none(tmp_path: Path, text: bytes | None) -> None:
    """A missing, cut, foreign or malicious file is as good as none."""
    path = tmp_path / "file.json"
    if text is not None:
        path.write_bytes(text)
    assert read_json(path, list[int]) is None


def test_write_all_writes_at_the_offset(tmp_path: Path) -> None:
    """Bytes go where they are wanted."""
    path = tmp_path / "file"
    path.write_bytes(b"........")
    descriptor = os.open(path, os.O_WRONLY)
    write_all(descriptor, b"abc", 2)
    os.close(descriptor)
    assert path.read_bytes() == b"..abc..."

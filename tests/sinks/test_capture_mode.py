"""The mode in which a thread may query events while another one captures a CUDA graph."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from trackside.sinks import capture_mode

if TYPE_CHECKING:
    from collections.abc import Callable

GLOBAL = 0


class Runtime:
    """Stands in for the CUDA runtime: the mode of the calling thread."""

    def __init__(self) -> None:
        self.mode = GLOBAL

    def cudaThreadExchangeStreamCaptureMode(self, pointer: Any) -> int:  # noqa: N802 - CUDA's name
        """Set the mode, and store the one before."""
        self.mode, pointer._obj.value = pointer._obj.value, self.mode
        return 0


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Runtime]:
    """Loads a stand-in for torch, built for CUDA's ``version``, and its runtime under ``name``."""
    monkeypatch.setattr(capture_mode, "_make", None)

    def chosen(version: str | None, name: str = "") -> Runtime:
        runtime = Runtime()

        def loaded(wanted: str, **_mode: int) -> Runtime:
            if wanted != name:
                raise OSError(f"{wanted}: cannot open shared object file")
            return runtime

        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(version=SimpleNamespace(cuda=version)))
        monkeypatch.setattr(ctypes, "PyDLL", loaded)
        return runtime

    return chosen


@pytest.mark.parametrize(
    ("version", "name"),
    [("13.0", "libcudart.so.13"), ("12.4", "libcudart.so.12"), ("11.8", "libcudart.so.11.0")],
)
def test_mode_is_relaxed_within(load: Callable[..., Runtime], version: str, name: str) -> None:
    """And as it was afterwards, also after an error, and of one use within another."""
    runtime = load(version, name)
    with capture_mode.relaxed():
        with pytest.raises(ValueError, match="boom in mode 2"), capture_mode.relaxed():
            raise ValueError(f"boom in mode {runtime.mode}")
        assert runtime.mode == capture_mode.RELAXED
    assert runtime.mode == GLOBAL


@pytest.mark.parametrize(("version", "name"), [("12.4", "libcudart-static.so"), (None, "libcudart.so.12")])
def test_nothing_without_the_runtime(load: Callable[..., Runtime], version: str | None, name: str) -> None:
    """One that is linked statically, or a torch that was not built for CUDA."""
    runtime = load(version, name)
    with capture_mode.relaxed():
        assert runtime.mode == GLOBAL

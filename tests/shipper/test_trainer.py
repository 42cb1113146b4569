"""Is the training process alive, and how did it end? Asked of real processes."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys

import msgspec
import psutil
import pytest

from trackside.journal.owner import SILENCE, Owner, boot_id, has_ended, is_alive, is_local, this_process
from trackside.lifecycle.evidence import UNKNOWN, ExitStatus
from trackside.shipper import trainer
from trackside.shipper.trainer import DeathWatch
from trackside.system.processes import start_ticks

CHILD = "import sys; sys.exit(int(sys.stdin.read() or 0))"


@pytest.fixture
def child():
    """A process that lives until it is told its exit code."""
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def owner_of(process: subprocess.Popen[str]) -> Owner:
    """``process`` as an owner."""
    started = psutil.Process(process.pid).create_time()
    return Owner(socket.gethostname(), process.pid, started, boot_id(), start_ticks(process.pid))


def as_older_versions_had_it(owner: Owner) -> Owner:
    """Without the kernel's word for when it was started. Other systems than Linux have none either."""
    return msgspec.structs.replace(owner, start_ticks=None)


def become_zombie(process: subprocess.Popen[str]) -> None:
    """Wait for the end of ``process``, but leave it to be waited for."""
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.wheel
def test_this_process_is_alive() -> None:
    """It can be looked up here, and is the one meant."""
    me = this_process()
    assert is_local(me)
    assert is_alive(me)
    assert not has_ended(me, silent_for=1e9), "who can be looked up needs no sign of life"
    assert not DeathWatch(me).is_dead()


def test_a_killed_process_is_dead(child) -> None:
    """And stays dead, whoever gets its number."""
    owner = owner_of(child)
    seen = DeathWatch(owner)
    assert not seen.is_dead()
    child.kill()
    child.wait()
    assert seen.is_dead()
    assert seen.is_dead()
    assert not is_alive(owner)
    assert has_ended(owner, silent_for=0.0)
    assert DeathWatch(owner).is_dead(), "also for a shipper that comes later"


def test_a_zombie_is_dead(child) -> None:
    """A parent that never waits for it must not keep the run RUNNING."""
    owner = owner_of(child)
    seen = DeathWatch(owner)
    child.kill()
    become_zombie(child)
    assert seen.is_dead()
    assert not is_alive(owner)
    assert DeathWatch(owner).is_dead()


def test_a_stopped_process_is_alive(child) -> None:
    """SIGSTOP, a debugger, an hour in native code: it may continue."""
    owner = owner_of(child)
    seen = DeathWatch(owner)
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)
    assert not seen.is_dead()
    assert is_alive(owner)


@pytest.mark.skipif(start_ticks(1) is None, reason="needs Linux")
def test_setting_the_clock_confuses_nobody(child) -> None:
    """Nor a shipper that is started after it: the kernel's ticks count, not the time of day."""
    owner = owner_of(child)
    assert is_alive(msgspec.structs.replace(owner, started=owner.started - 3600))
    assert owner.start_ticks is not None
    assert not is_alive(msgspec.structs.replace(owner, start_ticks=owner.start_ticks - 1))
    kept = msgspec.json.decode(msgspec.json.encode(owner), type=Owner)
    assert kept == owner


def test_a_journal_of_an_older_version_is_understood(child) -> None:
    """It has the time of day only."""
    owner = as_older_versions_had_it(owner_of(child))
    old = {name: getattr(owner, name) for name in ("host", "pid", "started", "boot_id")}
    assert msgspec.convert(old, Owner) == owner
    assert is_alive(owner)
    assert not is_alive(msgspec.structs.replace(owner, started=owner.started - 100))


def test_a_name_full_of_brackets(tmp_path) -> None:
    """The kernel puts the process's name, whatever it holds, in the midst of the numbers."""
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to(sys.executable)
    if start_ticks(os.getpid()) is None:
        pytest.skip("needs Linux")
    with subprocess.Popen([str(odd), "-c", CHILD], stdin=subprocess.PIPE, text=True) as process:
        seen = start_ticks(process.pid)
        assert seen is not None
        wall = seen / os.sysconf("SC_CLK_TCK") + psutil.boot_time()
        assert abs(wall - psutil.Process(process.pid).create_time()) < 2
        process.kill()


def test_ticks_of_nobody() -> None:
    """A process that is gone has none."""
    assert start_ticks(2**22 + 1) is None


@pytest.mark.parametrize("older", [False, True])
def test_a_reused_number_is_not_the_process(child, older: bool) -> None:
    """The same number with another start time is somebody else, whose end is not ours to report."""
    owner = owner_of(child)
    ticks = None if older or owner.start_ticks is None else owner.start_ticks - 10_000
    other = msgspec.structs.replace(owner, started=owner.started - 100, start_ticks=ticks)
    seen = DeathWatch(other)
    assert seen.is_dead()
    assert seen.fileno() is None
    child.kill()
    child.wait()
    assert seen.exit_status() == UNKNOWN


def test_setting_the_clock_kills_nobody(child, monkeypatch: pytest.MonkeyPatch) -> None:
    """psutil's start times count from a boot time that moves with the clock."""
    owner = owner_of(child)
    seen = DeathWatch(owner)
    if seen.fileno() is None:
        pytest.skip("no process descriptors here")
    monkeypatch.setattr(trainer, "is_alive", lambda _owner: False)
    assert not seen.is_dead()


def test_without_process_descriptors(child, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS and old kernels: the process table tells, but not how it ended."""
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    seen = DeathWatch(owner_of(child))
    assert seen.fileno() is None
    assert not seen.is_dead()
    child.kill()
    child.wait()
    assert seen.is_dead()
    assert seen.exit_status() == UNKNOWN


def test_a_process_that_may_not_be_looked_at_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's process is no dead one."""

    def refuse(_pid: int) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "Process", refuse)
    assert is_alive(msgspec.structs.replace(OWNER, boot_id=boot_id()))


OWNER = Owner(socket.gethostname(), 1, 0.0, "")


@pytest.mark.parametrize(
    ("host", "boot", "silent_for", "ended"),
    [
        ("elsewhere", "another-boot ns", 0.0, False),
        ("elsewhere", "another-boot ns", SILENCE + 1, True),
        (OWNER.host, "{boot} another-namespace", 0.0, False),
        (OWNER.host, "{boot} another-namespace", SILENCE + 1, True),
        (OWNER.host, "another-boot ns", 0.0, True),
    ],
    ids=["other host", "other host, silent", "other container", "other container, silent", "rebooted"],
)
def test_who_cannot_be_looked_up(host: str, boot: str, silent_for: float, ended: bool) -> None:
    """Another machine's or container's process is gone after silence, one from before a reboot at once."""
    owner = Owner(host, os.getpid(), this_process().started, boot.format(boot=boot_id().split()[0]))
    assert not is_local(owner)
    assert not is_alive(owner)
    assert has_ended(owner, silent_for=silent_for) is ended


# How it ended


def kernel_tells() -> bool:
    """Whether the kernel tells of exits through a process descriptor (Linux 6.15)."""
    if not hasattr(os, "pidfd_open"):
        return False
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        seen = DeathWatch(owner_of(process))  # type: ignore[arg-type]
        process.wait()
        return seen.fileno() is not None and seen.exit_status() != UNKNOWN


@pytest.mark.parametrize("code", [0, 7, 255])
def test_the_kernel_tells_the_exit_code(child, code: int) -> None:
    """Once the parent has waited for it, and unknown until then."""
    seen = DeathWatch(owner_of(child))
    assert seen.exit_status() == UNKNOWN
    assert child.stdin is not None
    child.stdin.write(str(code))
    child.stdin.close()
    become_zombie(child)
    assert seen.exit_status(patience=0.01) == UNKNOWN
    child.wait()
    assert seen.exit_status() == (ExitStatus(exit_code=code) if kernel_tells() else UNKNOWN)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGRTMIN + 3])
def test_the_kernel_tells_the_signal(child, number: int) -> None:
    """A real-time signal too, for which Python has no name."""
    seen = DeathWatch(owner_of(child))
    child.send_signal(number)
    child.wait()
    assert seen.exit_status() == (ExitStatus(killed_by=number) if kernel_tells() else UNKNOWN)


def test_wait_statuses_are_decoded() -> None:
    """As the kernel packs them: the code in the second byte, the signal in the lowest seven bits."""
    assert trainer._decode_wait_status(0) == ExitStatus(exit_code=0)
    assert trainer._decode_wait_status(7 << 8) == ExitStatus(exit_code=7)
    assert trainer._decode_wait_status(9) == ExitStatus(killed_by=9)
    assert trainer._decode_wait_status(11 | 128) == ExitStatus(killed_by=11), "with a core dump"
    assert trainer._decode_wait_status(40) == ExitStatus(killed_by=40)


def test_the_descriptor_wakes_a_waiter(child) -> None:
    """The shipper sleeps on it, and is awake at the death."""
    seen = DeathWatch(owner_of(child))
    descriptor = seen.fileno()
    if descriptor is None:
        pytest.skip("no process descriptors here")
    child.kill()
    poller = select.poll()  # select() takes no descriptor above 1023, and a test run has them
    poller.register(descriptor, select.POLLIN)
    assert [found for found, _ in poller.poll(30_000)] == [descriptor]


def test_oom_kills_are_a_count_or_unknown() -> None:
    """Never an error: most machines show this process no memory cgroup of its own."""
    kills = trainer.oom_kills()
    assert kills is None or kills >= 0

"""Minutes of emission while shipper and server are killed at random: nothing lost, nothing double, FINISHED.

``make soak`` runs it for ten minutes, ``make soak SOAK_SECONDS=60 SOAK_SEED=7`` for one, with the kills of
an earlier run. The database is read directly: what MLflow's API might hide, a second row say, counts.
"""

from __future__ import annotations

import os
import random
import secrets
import sqlite3
import statistics
import time
from collections import Counter
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.faults.servers import MlflowServer
from tests.faults.training import Training
from trackside.destinations.mlflow.tags import counts_in
from trackside.journal.files import read_json
from trackside.journal.meta import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = float(os.environ.get("SOAK_SECONDS") or 600)
SEED = int(os.environ.get("SOAK_SEED") or secrets.randbelow(1_000_000))
WARM_UP = 10.0
"""Seconds after which the trainer's memory must not grow any more."""

GROWTH_KB = 4096
SLOWER = 3.0
"""How much dearer than usual a log call may be while something is dead; that other work on the machine
makes all of them dearer at times is no fault."""

SCRIPT = """
import array, statistics
def value(i):
    return (i * 2654435761 % 2**32) / 2**32

def second(first):
    "Emit for a second, at a steady pace; how many, and what a call cost."
    begun, costs = time.time(), []
    for i in range(first, first + 400):
        at = time.perf_counter()
        trackside.log({"loss": 1.0 / (i + 1), "noise": value(i), "lr": 0.1}, step=i)
        costs.append(time.perf_counter() - at)
        ahead = begun + len(costs) / 400 - time.time()
        if ahead > 0:
            time.sleep(ahead)
    seen.extend((begun, time.time(), statistics.median(costs), max(costs)))
    return first + len(costs)

run = trackside.start("soak")
seen, count = array.array("d"), 0
say(run_id=run.run_id)
while not os.path.exists("enough"):
    count = second(count)
run.finish()
say(count=count, seen=list(seen), restarts=run._assembly.shipper.restarts)
"""


def value(step: int) -> float:
    """As the script has it."""
    return (step * 2654435761 % 2**32) / 2**32


def everything_once(count: int) -> Counter[tuple[str, int, float]]:
    """What the database must hold: each key of each step, once."""
    return Counter(
        point
        for i in range(count)
        for point in (("loss", i, 1.0 / (i + 1)), ("noise", i, value(i)), ("lr", i, 0.1))
    )


class Chaos:
    """Kills shipper and server at moments that ``seed`` chooses, and looks at the trainer meanwhile."""

    def __init__(self, training: Training, server: MlflowServer, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self.outages: list[tuple[float, float]] = []
        """Beginning and end of the times without a server, in seconds since the epoch."""
        self.memory: list[int] = []
        """What the trainer's heap took from :data:`WARM_UP` on, in KiB."""
        self._training = training
        self._server = server
        self._chance = random.Random(seed)
        self._warm = time.monotonic() + WARM_UP

    def reign(self, seconds: float) -> None:
        """Continue for ``seconds``."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._pause(2.0, 12.0)
            if self._chance.random() < 0.5:
                self._kill_shipper()
            else:
                self._stop_server()

    def _kill_shipper(self) -> None:
        (journal,) = self._training.journals
        state = read_json(journal.state, State)
        if state is None:
            return
        try:
            process = psutil.Process(state.pid)
            if process.status() == psutil.STATUS_ZOMBIE or str(journal.path) not in process.cmdline():
                return
            process.kill()
        except psutil.NoSuchProcess:  # killed a moment ago, and not replaced yet
            return
        self.done["shipper SIGKILL"] += 1

    def _stop_server(self) -> None:
        """Kill it, or ask it to leave. While it is away the shipper may be killed too."""
        gently = self._chance.random() < 0.3
        begun = time.time()
        if gently:
            self._server.terminate()
        else:
            self._server.kill()
        self.done["server SIGTERM" if gently else "server SIGKILL"] += 1
        self._pause(1.0, 8.0)
        if self._chance.random() < 0.3:
            self._kill_shipper()
        self._server.start()
        self.outages.append((begun, time.time()))

    def _pause(self, least: float, most: float) -> None:
        end = time.monotonic() + self._chance.uniform(least, most)
        while time.monotonic() < end:
            assert self._training.process.poll() is None, self._training.log()
            time.sleep(0.2)
            if time.monotonic() > self._warm:
                self.memory.append(heap_kb(self._training.process.pid))


def heap_kb(pid: int) -> int:
    """Memory of the process that no file backs. The journal's mapped pages are the kernel's to drop."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    """A stock server of this test's own."""
    (tmp_path / "server").mkdir()
    with MlflowServer(tmp_path / "server").running() as server:
        yield server


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 600)
def test_nothing_is_lost_however_often_shipper_and_server_die(tmp_path: Path, server: MlflowServer) -> None:
    """Every point is in the database once, the run is FINISHED, and the trainer has noticed nothing."""
    print(f"\nsoak: {SECONDS:g} s, seed {SEED}", flush=True)
    (tmp_path / "training").mkdir()
    training = Training(tmp_path / "training", server.url, SCRIPT)
    try:
        training.wait_to_say("run_id")
        chaos = Chaos(training, server, SEED)
        chaos.reign(SECONDS)
        training.go("enough")
        assert training.end(180) == 0, training.log()
        ended = time.monotonic()
        training.wait_until_delivered(300)
        late = time.monotonic() - ended
    finally:
        training.abandon()
    check_database(tmp_path / "server" / "mlflow.db", training.said["run_id"], training.said["count"])
    check_trainer(training, chaos, late)


def check_database(database: Path, run_id: str, count: int) -> None:
    """All points once, the last ones known as the latest, and the run at its end."""
    with sqlite3.connect(database) as connection:
        points = Counter(connection.execute("select key, step, value from metrics"))
        latest = dict(connection.execute("select key, step from latest_metrics"))
        ((status,),) = connection.execute("select status from runs where run_uuid = ?", (run_id,))
        tags = dict(connection.execute("select key, value from tags where run_uuid = ?", (run_id,)))
    connection.close()
    wanted = everything_once(count)
    assert list((wanted - points).items())[:5] == [], "lost"
    assert list((points - wanted).items())[:5] == [], "double, or never emitted"
    assert latest == dict.fromkeys(("loss", "noise", "lr"), count - 1)
    assert status == "FINISHED"
    assert counts_in(tags) == {"emitted": 3 * count, "shipped": 3 * count}


def check_trainer(training: Training, chaos: Chaos, late: float) -> None:
    """Its memory is flat, and a log call costs during outages what it costs otherwise. Print a summary."""
    quarter = max(1, len(chaos.memory) // 4)
    growth = statistics.median(chaos.memory[-quarter:]) - statistics.median(chaos.memory[:quarter])
    flat = list(training.said["seen"])
    seconds = list(zip(*[iter(flat)] * 4, strict=True))
    down = [s for s in seconds if any(s[0] < end and s[1] > begin for begin, end in chaos.outages)]
    up = [s for s in seconds if s not in down]
    dearer = statistics.median(s[2] for s in down) / statistics.median(s[2] for s in up)
    kills = ", ".join(f"{n} x {what}" for what, n in sorted(chaos.done.items()))
    count, away = training.said["count"], sum(end - begin for begin, end in chaos.outages)
    print(
        f"soak: {count} samples, {3 * count} points, each once; {SECONDS:g} s, seed {SEED}: {kills}; "
        f"{training.said['restarts']} replaced; server away {away:.0f} s; emit p50 {cost(up)}, "
        f"while away p50 {cost(down)}; heap {growth:+.0f} KiB; all there {late:.1f} s after the end",
        flush=True,
    )
    assert growth < GROWTH_KB
    assert dearer < SLOWER


def cost(seconds: list[tuple[float, ...]]) -> str:
    """The median of the seconds' medians, and the dearest call of all."""
    median = statistics.median(s[2] for s in seconds)
    return f"{median * 1e6:.1f} us, max {max(s[3] for s in seconds) * 1e3:.1f} ms"

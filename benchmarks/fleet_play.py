"""One fleet, from the start to the check at its end."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
from sqlalchemy import create_engine

from benchmarks.fleet_check import check, run_ids
from benchmarks.fleet_watch import LOOK_EVERY, AccessLog, CpuMeter, PageReader, rows_in
from benchmarks.fleet_worker import METRICS, NAMES
from benchmarks.places import temporary_directory
from benchmarks.worker import ROOT
from tests.faults.servers import MlflowServer

if TYPE_CHECKING:
    from benchmarks.worker import Figures
    from tests.faults.postgres import PostgresServer

RUNS_A_PROCESS = 250
PAGES = 4
"""Runs whose pages are read."""

SHOWN = 150
"""Looks kept for the plot."""


@dataclass(frozen=True)
class Fleet:
    """What is played. Times in seconds."""

    runs: int
    prefix: str
    """What comes before the database's address: empty, or the bulk store's."""
    seconds: float
    """That each run logs for, at least. After the outage it logs for half of that."""
    outage: float
    workers: int
    patience: float
    """For the last point and the end of the last run."""

    @property
    def outage_at(self) -> float:
        """When the server is killed: a third of the way."""
        return self.seconds / 3


class Play:
    """Plays ``fleet`` on a server of its own on ``postgresql``."""

    def __init__(self, fleet: Fleet, postgresql: PostgresServer) -> None:
        self._fleet = fleet
        self._postgresql = postgresql
        self._engine = create_engine(postgresql.uri, isolation_level="AUTOCOMMIT")
        self._experiment = f"fleet-{time.time_ns()}"
        self._looks: list[tuple[float, ...]] = []
        self._up_again = 0.0
        """Seconds, like all times here, since the runs began."""
        self._logged_for = math.inf

    def play(self) -> Figures:
        """All figures."""
        with ExitStack() as stack:
            directory = temporary_directory(stack)
            server = MlflowServer(
                directory,
                backend_store_uri=self._fleet.prefix + self._postgresql.uri,
                workers=self._fleet.workers,
            )
            stack.callback(server.kill)
            stack.callback(self._engine.dispose)
            server.start()
            return self._play_on(server, AccessLog(directory / "server.log"), stack)

    def _play_on(self, server: MlflowServer, log: AccessLog, stack: ExitStack) -> Figures:
        log.read()
        before = Counter(log.requests)
        tags = rows_in(self._engine, "tags")
        processes = self._launch(server.url)
        for process in processes:
            stack.callback(process.kill)
        begin = _begin(processes)
        reader = PageReader(server.url, self._pages, NAMES[0])
        reader.start()
        course = threading.Thread(target=self._run_course, args=[server, processes, begin], daemon=True)
        course.start()
        self._watch(server, log, processes, begin)
        reader.stop()
        course.join()
        said = [_last_words(process) for process in processes]
        log.read()
        requests = log.requests - before
        runs = self._of_runs(said, begin)
        runs["pace"] = self._correct_looks(runs["logged"])
        figures = {
            **runs,
            **self._of_pages(reader, begin),
            **self._of_looks(),
            **self._of_tags(tags),
            "requests": dict(requests.most_common()),
            "refused": dict(log.refused.most_common(8)),
            "requests_a_run": requests.total() / self._fleet.runs,
        }
        return {name: value for name, value in figures.items() if value is not None}

    def _launch(self, url: str) -> list[subprocess.Popen[str]]:
        fleet = self._fleet
        processes = max(2, -(-fleet.runs // RUNS_A_PROCESS))
        shares = [fleet.runs * number // processes for number in range(processes + 1)]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        return [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.fleet_worker", url, self._experiment]
                + [str(part) for part in (first, after - first, fleet.patience)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
            for first, after in itertools.pairwise(shares)
        ]

    def _pages(self) -> dict[str, str]:
        """Some of the runs, once there are so many."""
        found = run_ids(self._engine, self._experiment)
        return dict(sorted(found.items())[:PAGES]) if len(found) >= PAGES else {}

    def _run_course(self, server: MlflowServer, processes: list[subprocess.Popen[str]], begin: float) -> None:
        """Have the outage. Then, after a while, have the runs end."""
        fleet = self._fleet
        if fleet.outage:
            time.sleep(max(begin + fleet.outage_at - time.time(), 0))
            server.kill()
            time.sleep(fleet.outage)
            server.start()
            self._up_again = time.time() - begin
        self._logged_for = max(fleet.seconds, self._up_again + fleet.seconds / 2)
        time.sleep(max(begin + self._logged_for - time.time(), 0))
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()

    def _watch(
        self, server: MlflowServer, log: AccessLog, processes: list[subprocess.Popen[str]], begin: float
    ) -> None:
        """Look at everything each second until the last process has ended."""
        meters = [
            CpuMeter(server.processes),
            CpuMeter(self._postgresql.processes),
            CpuMeter(lambda: [psutil.Process(process.pid) for process in processes]),
        ]
        first = rows_in(self._engine, "metrics")["inserted"]
        while True:
            alive = any(process.poll() is None for process in processes)
            now = time.time() - begin
            rows = rows_in(self._engine, "metrics")["inserted"] - first
            logged = METRICS * self._fleet.runs * min(max(now, 0), self._logged_for)
            cpu = [meter.read() for meter in meters]
            self._looks.append((now, logged, rows, log.read(), *cpu))
            if not alive:
                return
            time.sleep(LOOK_EVERY)

    # Figures

    def _correct_looks(self, logged: int) -> float:
        """Have each look say how many points were behind. Returns the share of what was due that was logged.

        The trainings of a large fleet may get too little processor time to log once a second.
        """
        pace = logged / (METRICS * self._fleet.runs * self._logged_for)
        self._looks = [(now, max(pace * due - rows, 0), rows, *rest) for now, due, rows, *rest in self._looks]
        return pace

    def _of_runs(self, said: list[Figures], begin: float) -> Figures:
        runs = [run for process in said for run in process["runs"]]
        opened = sorted(moment - begin for process in said for moment in process["opened"])
        failing = Counter(run["failing"][:200] for run in runs if run["failing"])
        return {
            "late": max(process["late"] for process in said),
            "started_median": _at(opened, 0.5),
            "started": opened[-1] if len(opened) == self._fleet.runs else None,
            "ended": max(process["over"] for process in said) - begin - self._logged_for,
            "unfinished": sum(not run["finished"] for run in runs),
            "failing": dict(failing.most_common(3)),
            **check(self._engine, self._experiment, runs),
        }

    def _of_pages(self, reader: PageReader, begin: float) -> Figures:
        """Of the time in which the server has worked for a while, and no backlog is left."""
        calm = [sight for sight in reader.sights if self._is_calm(sight.at - begin)]
        ages = sorted(age for sight in calm for age in sight.ages)
        took = sorted(sight.took for sight in calm)
        return {
            "visible_median": _at(ages, 0.5),
            "visible_p99": _at(ages, 0.99),
            "page_median": _at(took, 0.5),
            "page_p99": _at(took, 0.99),
            "page_failures": reader.failures,
            "pages": [
                (round(sight.at - begin, 2), round(sight.took, 3), round(max(sight.ages, default=0.0), 2))
                for sight in reader.sights
            ][:: max(len(reader.sights) // SHOWN, 1)],
        }

    def _is_calm(self, at: float) -> bool:
        """Whether the server has started all runs by then, and the outage is not on, nor just over."""
        fleet = self._fleet
        first = fleet.outage_at / 4 <= at < fleet.outage_at - 1
        caught_up = self._caught_up()
        return first or (caught_up is not None and self._up_again + caught_up <= at < self._logged_for)

    def _of_looks(self) -> Figures:
        fleet, looks = self._fleet, self._looks
        calm = [look for look in looks if fleet.outage_at / 4 <= look[0] < fleet.outage_at - 1]
        figures: Figures = {}
        if len(calm) > 1:
            first, last = calm[0], calm[-1]
            took = last[0] - first[0]
            names = ("rate", "requests_s", "server_cpu", "postgresql_cpu", "fleet_cpu")
            figures = {name: (last[at] - first[at]) / took for at, name in enumerate(names, 2)}
            figures["behind"] = last[1]
        if fleet.outage:
            figures["up_again"] = self._up_again
            figures["without_server"] = self._up_again - fleet.outage_at
        figures["caught_up"] = self._caught_up()
        fields = ["seconds", "behind", "rows", "requests", "server_cpu", "postgresql_cpu", "fleet_cpu"]
        shown = looks[:: max(len(looks) // SHOWN, 1)]
        return {
            **figures,
            "looks": [[round(one, 2) for one in look] for look in shown],
            "looks_fields": fields,
        }

    def _caught_up(self) -> float | None:
        """Seconds from the end of the outage until no more is behind than before it, and 2 s of points."""
        fleet, before = self._fleet, 0.0
        if not fleet.outage:
            return None
        for look in self._looks:
            if look[0] < fleet.outage_at:
                before = look[1]
            elif look[0] > self._up_again and look[1] <= before + 2 * METRICS * fleet.runs:
                return look[0] - self._up_again
        return None

    def _of_tags(self, before: Figures) -> Figures:
        after = rows_in(self._engine, "tags")
        updated = after["updated"] - before["updated"]
        in_place = after["in_place"] - before["in_place"]
        return {"tag_updates": updated, "tag_updates_in_place": in_place, "dead_tags": after["dead"]}


def _last_words(process: subprocess.Popen[str]) -> Any:
    """What a process of the fleet has found out. Raises ``RuntimeError`` if it died before that."""
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    code = process.wait()
    if not lines or code:
        raise RuntimeError(f"a process of the fleet ended with exit code {code}, and said {lines[-1:]}")
    return json.loads(lines[-1])


def _begin(processes: list[subprocess.Popen[str]]) -> float:
    """Have all begin together, soon after the last one has said that it is ready. Returns when."""
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    begin = time.time() + 1.0
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{begin}\n")
        process.stdin.flush()
    return begin


def _at(ordered: list[float], share: float) -> float | None:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None

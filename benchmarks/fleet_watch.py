"""What is looked at while a fleet runs: processor time, requests, rows, and what a reader of MLflow sees."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from sqlalchemy.engine import Engine

LOOK_EVERY = 1.0
PAGE_EVERY = 0.5
"""Seconds between two looks at a run's page, one run after another."""

PAGE_TIMEOUT = 60.0

_REQUEST = re.compile(r'"(?P<verb>[A-Z]+) (?P<path>[^ ?]+)[^"]*" (?P<status>\d{3})')


class CpuMeter:
    """Seconds of processor time that the processes of ``find`` have used, also those that have ended."""

    def __init__(self, find: Callable[[], Iterable[psutil.Process]]) -> None:
        self._find = find
        self._seen: dict[tuple[int, float], float] = {}

    def read(self) -> float:
        """Seconds so far."""
        with contextlib.suppress(psutil.Error, OSError):
            for process in self._find():
                with contextlib.suppress(psutil.Error):
                    times = process.cpu_times()
                    self._seen[process.pid, process.create_time()] = times.user + times.system
        return sum(self._seen.values())


class AccessLog:
    """Counts the requests in a server's log, by what was asked, as far as it was written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.requests: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """Those with a status of 400 and above."""

    def read(self) -> int:
        """Requests so far."""
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._offset += len(whole)
            for line in whole.decode(errors="replace").splitlines():
                self._count(line)
        return self.requests.total()

    def _count(self, line: str) -> None:
        found = _REQUEST.search(line)
        if found is None:
            return
        asked = found["path"].partition("/mlflow/")[2] or found["path"]
        self.requests[asked] += 1
        if int(found["status"]) >= http.client.BAD_REQUEST:
            self.refused[f"{asked} {found['status']}"] += 1


def rows_in(engine: Engine, table: str) -> dict[str, int]:
    """What PostgreSQL counts of a table: rows inserted and updated, in place or not, and dead ones."""
    from sqlalchemy import text

    query = text(
        "SELECT n_tup_ins, n_tup_upd, n_tup_hot_upd, n_dead_tup "
        "FROM pg_stat_user_tables WHERE relname = :name"
    )
    with engine.connect() as connection:
        row = connection.execute(query, {"name": table}).one()
    return dict(zip(("inserted", "updated", "in_place", "dead"), map(int, row), strict=True))


@dataclass
class Sight:
    """A look at a run's page: when it began, how long it took, and the age of the points new on it."""

    at: float
    took: float
    ages: list[float] = field(default_factory=list)


class PageReader(threading.Thread):
    """Reads the pages of a few runs over MLflow's API, all the time, as an open browser tab does.

    A point is visible once an answer shows its step, or a later one. Its age then is how long it took.
    """

    def __init__(self, url: str, find: Callable[[], dict[str, str]], name: str) -> None:
        super().__init__(name="page-reader", daemon=True)
        self._address = urlsplit(url).netloc
        self._find = find
        self._name = name
        self._shown: dict[str, int] = {}
        self._over = threading.Event()
        self.sights: list[Sight] = []
        self.failures = 0

    def run(self) -> None:
        """Read until :meth:`stop`."""
        ids: dict[str, str] = {}
        while not self._over.wait(PAGE_EVERY):
            if not ids:
                ids = self._find()
            for run_id in list(ids.values()):
                if self._over.wait(PAGE_EVERY):
                    return
                self._look(run_id)

    def stop(self) -> None:
        """End, once the look that is going on is over."""
        self._over.set()
        self.join(PAGE_TIMEOUT)

    def _look(self, run_id: str) -> None:
        begun = time.time()
        try:
            page = self._get(f"/api/2.0/mlflow/runs/get?run_id={run_id}")
        except (OSError, http.client.HTTPException, ValueError):
            self.failures += 1
            return
        now = time.time()
        sight = Sight(begun, now - begun)
        for metric in page["run"]["data"].get("metrics", []):
            if metric["key"] == self._name:
                sight.ages = self._ages(run_id, int(metric["step"]), int(metric["timestamp"]) / 1000, now)
        self.sights.append(sight)

    def _ages(self, run_id: str, step: int, logged: float, now: float) -> list[float]:
        """Of each step that is shown for the first time. A run logs one each second."""
        before = self._shown.get(run_id, step)  # at the first look, it is unknown since when they are shown
        self._shown[run_id] = max(step, before)
        return [now - logged + behind for behind in range(max(step - before, 0))]

    def _get(self, path: str) -> Any:
        connection = http.client.HTTPConnection(self._address, timeout=PAGE_TIMEOUT)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"{answer.status}")
        return json.loads(body)

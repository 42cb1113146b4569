"""Watches one program whose run is on a server: its first point there, and what the shipper takes.

Started by ``start_and_end``. The server is new, so the first experiment with a run that has a point is ours.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import urllib.request
from typing import Any

import click
import psutil

from benchmarks.loggers.trackside import ADDRESS
from benchmarks.watched import Watched, complain
from benchmarks.worker import own_stdout, say

SAMPLES = 150
PAUSE = 0.02
EVERY = 0.02
"""Seconds between two looks at the server, and at the shipper."""


@click.command()
@click.argument("url")
def main(url: str) -> None:
    """Run a program that logs to the server at URL, and print seconds and MiB."""
    out = own_stdout()
    os.environ[ADDRESS] = url
    watched = Watched("trackside", samples=SAMPLES, metrics=10, pause=PAUSE)
    look = Look(url, psutil.Process(watched.pid))
    thread = threading.Thread(target=look.run, daemon=True)
    thread.start()
    moments = {event.name: event.moment for event in watched.events()}
    code, ended = watched.wait(), time.monotonic()
    look.over = True
    thread.join()
    if code != 0:
        complain()
    if look.first_point is None:
        sys.exit("no point was at the server before the program had ended")
    figures = {
        "import": moments["imported"] - moments["importing"],
        "start": moments["started"] - moments["imported"],
        "until_started": moments["started"] - watched.begun,
        "first_point": look.first_point - moments["imported"],
        "end": ended - moments["last"],
        "shipper_mib": look.own / 2**20,
        "shipper_rss": look.resident / 2**20,
        "shipper_cpu": look.cpu,
    }
    say(figures, out)


class Look:
    """What is seen of a run and of its shipper, until it is over."""

    def __init__(self, url: str, program: psutil.Process) -> None:
        self.over = False
        self.first_point: float | None = None
        self.own = self.resident = 0
        """Bytes at most: those of the shipper alone, and all of its pages."""
        self.cpu = 0.0
        self._url = url
        self._program = program

    def run(self) -> None:
        """Look again and again."""
        while not self.over:
            if self.first_point is None and self._has_a_point():
                self.first_point = time.monotonic()
            try:
                for shipper in self._program.children():
                    memory = shipper.memory_full_info()
                    self.own, self.resident = max(self.own, memory.uss), max(self.resident, memory.rss)
                    self.cpu = max(self.cpu, sum(shipper.cpu_times()[:2]))
            except psutil.Error:  # it has just ended
                pass
            time.sleep(EVERY)

    def _has_a_point(self) -> bool:
        found = self._ask("experiments/search", {"max_results": 100})
        ids = [each["experiment_id"] for each in found.get("experiments", [])]
        runs = self._ask("runs/search", {"experiment_ids": ids}).get("runs", [])
        return any(run["data"].get("metrics") for run in runs)

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self._url}/api/2.0/mlflow/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


if __name__ == "__main__":
    main()

"""A stock ``mlflow server`` that can be killed and started again on the same port."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import psutil

from tests.faults.proxy import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

START_TIMEOUT = 90.0


class MlflowServer:
    """``mlflow server`` with sqlite and an artifact folder in ``directory``. One worker by default.

    ``takes_files``: whether files are sent to the server, or written into its folder by the program itself.
    ``files_to``: where the server puts them instead.
    """

    def __init__(
        self,
        directory: Path,
        *,
        backend_store_uri: str | None = None,
        workers: int = 1,
        takes_files: bool = True,
        files_to: str | None = None,
    ) -> None:
        self.directory = directory
        self.workers = workers
        self.takes_files = takes_files
        self.files_to = files_to or str(directory / "artifacts")
        self.database = backend_store_uri or f"sqlite:///{directory / 'mlflow.db'}"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Its tracking URI."""
        return f"http://{self.address}"

    @contextlib.contextmanager
    def running(self) -> Iterator[MlflowServer]:
        """Start it, and kill it at the end."""
        try:
            self.start()
            yield self
        finally:
            self.kill()

    def start(self) -> None:
        """Start it, and wait until it answers. One that runs is left alone."""
        self.launch()
        self.wait_until_up()

    def launch(self) -> None:
        """Start it, without waiting."""
        if self._process is not None and self._process.poll() is None:
            return
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", str(self.workers)]
        command += ["--backend-store-uri", self.database]
        command += ["--artifacts-destination", self.files_to]
        given = ["--no-serve-artifacts", "--default-artifact-root", self.files_to]
        command += [] if self.takes_files else given
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        environment.pop("PYTEST_CURRENT_TEST", None)  # MLflow's stores behave otherwise under it
        with open(self.directory / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_up(self) -> None:
        """Wait until it answers."""
        wait_until(self.is_up, START_TIMEOUT, (self.directory / "server.log").read_text)

    def is_up(self) -> bool:
        """Whether it answers."""
        # Not /health: the store is opened by the first request that needs it.
        url = f"{self.url}/api/2.0/mlflow/experiments/get?experiment_id=0"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=30) as response:
            return bool(response.status == 200)
        return False

    def processes(self) -> list[psutil.Process]:
        """The server's own, and its workers. None while it does not run."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if self._process is not None:
                server = psutil.Process(self._process.pid)
                return [server, *server.children(recursive=True)]
        return []

    def kill(self) -> None:
        """SIGKILL for the server and its workers."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def terminate(self, patience: float = 15.0) -> None:
        """SIGTERM for the server and its workers. SIGKILL for what is left of them after ``patience`` s."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
            self.kill()


def wait_until(
    condition: Callable[[], bool], timeout: float, explain: Callable[[], object] = lambda: ""
) -> None:
    """Poll until ``condition()`` holds. After ``timeout`` seconds fail with what ``explain()`` says."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not so after {timeout:g} s: {explain()}")
        time.sleep(0.05)

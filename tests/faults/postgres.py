"""A PostgreSQL server of the test's own, which can be stopped and started again."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.faults.proxy import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLACES = "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin"


def find_programs() -> Path | None:
    """The folder with ``initdb`` and ``pg_ctl``. None where PostgreSQL is not installed."""
    on_path = shutil.which("pg_ctl")
    folders = [os.path.dirname(on_path)] if on_path else []
    folders += [folder for place in _PLACES for folder in sorted(glob.glob(place), reverse=True)]
    return next((Path(folder) for folder in folders if (Path(folder) / "initdb").exists()), None)


class PostgresServer:
    """Listens on 127.0.0.1 only. User ``trackside``, whose password is in :attr:`uri`."""

    def __init__(self, programs: Path, directory: Path) -> None:
        self._programs = programs
        self._data = directory / "data"
        self._log = directory / "log"
        self._port = free_port()
        self._user = _unprivileged_user()
        self._running = False
        self.password = "s3cr3t-pg-pw"
        if self._user is not None:  # PostgreSQL refuses to run as root
            os.chown(directory, self._user.pw_uid, self._user.pw_gid)
        secret = directory / "password"
        secret.write_text(self.password)
        if self._user is not None:
            os.chown(secret, self._user.pw_uid, self._user.pw_gid)
        self._run("initdb", "-D", self._data, "-U", "trackside", "-A", "md5", "--pwfile", secret, "-N")

    @property
    def uri(self) -> str:
        """For MLflow. Names the driver, since SQLAlchemy 2.1 means another one by default."""
        return f"postgresql+psycopg2://trackside:{self.password}@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers. One that runs is left alone."""
        if self._running:
            return
        options = (
            f"-c port={self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        )
        self._run("pg_ctl", "-D", self._data, "-l", self._log, "-w", "-t", "60", "-o", options, "start")
        self._running = True

    def stop(self) -> None:
        """Cut all connections, as a crash or a failover does."""
        if self._running:
            self._running = False
            self._run("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop")

    def processes(self) -> list[psutil.Process]:
        """The server's own, and one for each connection."""
        pid = int((self._data / "postmaster.pid").read_text().splitlines()[0])
        postmaster = psutil.Process(pid)
        return [postmaster, *postmaster.children(recursive=True)]

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Have the server and each connection's process stand still: nothing is answered, nothing closed."""
        processes = self.processes()
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def _run(self, program: str, *arguments: object) -> None:
        identity: dict[str, Any] = {}
        if self._user is not None:
            identity = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        subprocess.run(
            [str(self._programs / program), *map(str, arguments)],
            check=True,
            timeout=120,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            **identity,
        )


def _unprivileged_user() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


@contextmanager
def postgres_server(programs: Path) -> Iterator[PostgresServer]:
    """A running server in a folder of its own (pytest's belong to one user, this may be another)."""
    directory = Path(tempfile.mkdtemp(prefix="trackside-pg-"))
    server = PostgresServer(programs, directory)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def server_or_skip() -> Iterator[PostgresServer]:
    """A running server. The test is skipped where PostgreSQL, or the driver, is not installed."""
    import pytest  # the benchmarks use this module, and do without it

    pytest.importorskip("psycopg2")
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    with postgres_server(programs) as server:
        yield server

"""A shipper that is no process: it says what it is told to say, at once."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from trackside.journal.cursor import Cursor, save_cursor
from trackside.journal.directory import JournalDirectory
from trackside.journal.files import write_atomically
from trackside.journal.meta import RunInfo, State
from trackside.journal.reader import Position
from trackside.shipper.protocol import READY, Line

DELIVERED = Cursor(position=Position(1, 0, 1 << 40), shipped=7)


class StubShipper:
    """Stands in for :func:`trackside.session.shipper_handle.spawn`, and for the process that it returns.

    ``cursor`` and the fields of the state (``phase``, ``run``, ``status``, ``error``, ``notices``) are what
    it leaves in the journal when it is started, None for nothing at all.
    """

    pid = 4_000_000

    def __init__(self) -> None:
        self.cursor: Cursor | None = DELIVERED
        self.state: dict[str, Any] | None = {
            "phase": "done",
            "status": "FINISHED",
            "run": RunInfo("abc", "7", "/artifacts", "http://mlflow:5000/#/experiments/7/runs/abc"),
        }
        self.returncode: int | None = None
        self.started: list[JournalDirectory] = []
        self.options: dict[str, Any] = {}

    def __call__(self, command: list[str], **options: Any) -> StubShipper:
        journal = JournalDirectory(command[3])
        self.started.append(journal)
        self.options = options
        self.say(READY)
        self.speak()
        return self

    def say(self, word: bytes) -> None:
        """Say ``word`` to the trainer, where there is a channel to it."""
        for descriptor in self.options.get("pass_fds", ())[1:2]:
            line = Line(os.dup(descriptor))
            line.send(word)
            line.close()

    def speak(self) -> None:
        """Leave state and cursor in the journal."""
        if self.cursor is not None:
            save_cursor(self.started[-1].cursor("mlflow"), self.cursor)
        if self.state is not None:
            state = State(pid=self.pid, **self.state)
            write_atomically(self.started[-1].state, msgspec.json.encode(state))

    def poll(self) -> int | None:
        """What a process would."""
        return self.returncode

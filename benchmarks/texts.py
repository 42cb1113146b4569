"""What the page of results says in words."""

from __future__ import annotations

from typing import NamedTuple

TITLE = "Benchmarks"

INTRODUCTION = """\
Made by `python -m benchmarks.report` from the results in [benchmarks/results](benchmarks/results); do not
edit. `make bench` measures on your machine. What is behind the numbers is in [Performance](performance.md)
and [The bulk store](bulk-store.md).

Every measurement is a process of its own in an empty directory. Rounds are interleaved: each goes through
all that is compared before the next begins, so that a machine whose speed drifts treats them alike. Shown is
the median over the rounds, with the lowest and the highest behind it; a ratio is taken within each round
first. **Only ratios carry over to another machine.**
"""

FAIRNESS = """\
- Every library is used as its own documentation has it, with its defaults; what has a local or an offline
  mode is measured in it, so that nobody's network counts.
- `log_batch` by hand is the fastest way MLflow's client has, 1000 metrics a call (its limit), and does
  nothing else. Training code that calls `log_metrics` at each step is several times slower.
- A trackside figure is from the first emit until the shipper knows that all is in the database; the trainer,
  the journal and the shipper share the machine with the database and the server.
- PostgreSQL is on the same machine with fsync off, which favours whoever makes more transactions.
- On two cores, whatever runs beside the shipper (which has a low priority) takes from its rate.
"""


class Section(NamedTuple):
    """A benchmark's: the heading, how to read it, and its plots by file name, with what they show."""

    heading: str
    how_to_read: str
    plots: tuple[tuple[str, str], ...] = ()


SECTIONS = {
    "cost_of_log": Section(
        "What a log costs the training",
        "The time of one call in the training thread. The mean matters for throughput, p99.9 for steps that "
        "wait for each other in a distributed job. A busy Python thread beside it shows who needs the GIL "
        "several times a call.",
        (
            ("cost_of_log", "What a call costs, by logger"),
            ("cost_by_metrics", "What a call costs, by the number of metrics"),
        ),
    ),
    "training_step": Section(
        "What a training step feels",
        "A real training loop (torch, one thread) with each library, against the same loop with nothing "
        "logged: what the library's other threads and processes take from it counts too.",
        (("training_step", "What logging adds to a training step"),),
    ),
    "start_and_end": Section(
        "Start and end",
        "What a program waits for before its first step and after its last one.",
    ),
    "survival": Section(
        "What survives a kill",
        "The process is killed with SIGKILL in the midst of logging; what is on disk is then read with the "
        "library's own reader.",
    ),
    "delivery": Section(
        "Delivery",
        "Points a second from the first emit to the last acknowledgement, against MLflow's `log_batch` "
        "called by hand in a loop, and against the store's own limit: rows that are ready, inserted into "
        "the one table. The CPU time is that of the process that writes: by hand its own, with trackside the "
        "shipper's.",
        (("delivery", "Points a second, by way and place"),),
    ),
    "scale": Section(
        "Growth",
        "Long runs and many keys, into sqlite. The training emits all along, at most 200,000 points ahead "
        "of the shipper. Memory is what is resident (of which its own: what no file backs) and should be the "
        "same in the last quarter of a run as in the first; an emit should cost the same in the last tenth "
        "as in the first. Samples have at most 100 metrics; where there are more keys, they take turns. The "
        "first quarter of a short run is that of a process that warms up.",
        (
            ("growth", "Points a second, by the size of the run"),
            ("memory", "Memory over the largest run"),
        ),
    ),
    "outage": Section(
        "After an outage",
        "Nothing can be delivered while many points are emitted: sqlite's file is locked, PostgreSQL is "
        "stopped, an MLflow server is not there yet. Then the place comes back while a training (torch, one "
        "thread) goes on, 10 metrics a step. It has caught up when it is less than a second's points behind. "
        "The time counts from when the place answers, and so includes the shipper's wait for its next try.",
        (("outage", "Backlog and step time over an outage"),),
    ),
}
"""By benchmark."""

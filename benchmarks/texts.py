"""What the page of results says in words."""

from __future__ import annotations

from typing import NamedTuple

TITLE = "Benchmarks"

INTRODUCTION = """\
After this page you know how trackside compares with other loggers. [Performance](performance.md) and
[The bulk store](bulk-store.md) explain the numbers.

To measure on your machine, run `make bench`. It leaves these pages alone, and writes its own page and
results into `build/benchmarks`. `make bench ARGS=--renew-docs` measures everything and renews this page, its
plots, its [results](benchmarks/results) and the table in the README. Do not edit them.

[Performance](performance.md#tensors-on-an-accelerator) has what a log of values on a GPU costs.

Every measurement runs in its own process, in an empty directory. Rounds are interleaved: each round
measures every candidate before the next begins, so a machine whose speed drifts treats all of them
alike. You see the median over the rounds, with the lowest and the highest behind it. A ratio is taken
within each round first. **Only ratios carry over to your machine.**
"""

FAIRNESS = """\
- *In the loop* means that each call comes behind a real training step, and is timed by itself. A step empties
  the processor's caches, so the same call takes several times what it takes in a tight loop. Your loop is of
  the first kind. The tight loop shows throughput.
- *A JSON line* is `file.write(json.dumps({"step": step, **metrics}) + "\\n")` into an open file, without a
  flush. Every library takes turns with it, 25 steps each, in the same process. The row *flushed* also calls
  `file.flush()`.
- Every library is used as its own documentation shows, with its defaults. If it has a local or an
  offline mode, it is measured in that mode, so that no network counts.
- `log_batch` by hand is the fastest way of MLflow's client, 1000 metrics a call (its limit), and does
  nothing else. If your training calls `log_metrics` at each step, it is several times slower.
- A trackside figure covers the time from the first emit until the shipper knows that everything is in
  the database. The trainer, the journal and the shipper share the machine with the database and the
  server.
- PostgreSQL is on the same machine with fsync off. That favours whoever makes more transactions.
- On two cores, anything that runs beside the shipper takes from its rate, because the shipper has a low
  priority.
"""


class Section(NamedTuple):
    """A benchmark's: the heading, how to read it, and its plots by file name, with what they show."""

    heading: str
    how_to_read: str
    plots: tuple[tuple[str, str], ...] = ()


SECTIONS = {
    "cost_of_log": Section(
        "What a log costs the training",
        "The time of one call in your training thread, behind a training step. Look at p99.9 if the steps of "
        "a distributed job wait for each other. An empty call shows the noise: its p99.9 is the machine's "
        "alone. Fewer than 1,000 calls have no p99.9. In a tight loop, a busy Python thread beside it shows "
        "which library needs the GIL several times a call.",
        (
            ("cost_of_log", "What a call costs, by logger"),
            ("cost_by_metrics", "What a call costs, by the number of metrics"),
        ),
    ),
    "cost_of_artifacts": Section(
        "What a file, image or table costs the training",
        "The time of one call in your training thread, behind a training step, into a store on this machine. "
        "Over a network, a library that uploads in the call takes longer. The last column compares the steps "
        "between such calls with those of blocks that have none: it shows what threads and processes of the "
        "library take from the training. W&B is offline. MLflow has no call for a histogram, W&B none for a "
        "text alone, and TensorBoard none for tables and files.",
    ),
    "training_step": Section(
        "What a training step feels",
        "A real training loop (torch, one thread). Blocks of steps that log take turns with blocks that do "
        "not. You see the median ratio of neighbouring blocks, with its bounds at 95 % by the sign test. If "
        "the bounds lie on both sides of the target, the answer is *cannot tell*. The row *no logging* is "
        "the same measurement of nothing, so it shows the noise. What a library's threads and processes take "
        "falls on both kinds of block: see it in the last comparison, with a process that logs nothing.",
        (("training_step", "What logging adds to a training step"),),
    ),
    "start_and_end": Section(
        "Start and end",
        "How long your program waits before its first step and after its last one. *Busy* is with one busy "
        "process for each processor beside it.",
    ),
    "survival": Section(
        "What survives a kill",
        "The process is killed with SIGKILL while it logs. What is on disk is then read with the library's "
        "own reader.",
    ),
    "delivery": Section(
        "Delivery",
        "Points a second from the first emit to the last acknowledgement. They are compared with MLflow's "
        "`log_batch` called by hand in a loop, and with the store's own limit: prepared rows, inserted "
        "into one table. The CPU time is that of the process that writes. With trackside, that is the "
        "shipper.",
        (("delivery", "Points a second, by way and place"),),
    ),
    "scale": Section(
        "Growth",
        "Long runs and many keys, into sqlite. The training emits all along, at most 200,000 points ahead "
        "of the shipper. Memory is what is resident (of which its own: what no file backs). It should be "
        "the same in the last quarter of a run as in the first. An emit should cost the same in the last "
        "tenth as in the first. Samples have at most 100 metrics. If there are more keys, they take turns. "
        "In a short run, the process still warms up in the first quarter.",
        (
            ("growth", "Points a second, by the size of the run"),
            ("memory", "Memory over the largest run"),
        ),
    ),
    "outage": Section(
        "After an outage",
        "Nothing can be delivered while many points are emitted: sqlite's file is locked, PostgreSQL is "
        "stopped, or an MLflow server is not up yet. Then the place comes back while a training (torch, "
        "one thread) continues, 10 metrics a step. The shipper has caught up when it is less than a "
        "second's points behind. The time counts from when the place answers, so it includes the backoff "
        "before the next try.",
        (("outage", "Backlog and step time over an outage"),),
    ),
    "fleet": Section(
        "A fleet",
        "Many runs into one MLflow server on PostgreSQL. All of them start at the same moment, and each logs "
        "10 metrics a second. A third of the way the server is killed, and started again after the outage. "
        "The delivery is the real one. Only the processes around it are simulated: many runs share one. "
        "The server, PostgreSQL and the fleet share the machine, so on your server the same fleet gets more. "
        "[Many runs](many-runs.md) tells you what to set.",
        (
            ("fleet", "What a fleet gets from its server, by the number of runs"),
            ("fleet_course", "How far each fleet is behind, over time"),
        ),
    ),
}
"""By benchmark."""

"""Runs as users log into them and read them."""

from typing import Literal

from typing_extensions import assert_type

import trackside
from trackside import Bus, ConfigEvent, Counts, MetricsSample, Run

# One type, whatever the rank and the mode.
with trackside.start("student") as student, trackside.start("teacher", bus=Bus("teacher")) as teacher:
    student.log({"loss": 0.5}, step=1, epoch=0.5, prefix="train")
    teacher.bus.log({"loss": 0.5}, step=1)
    teacher.emit(MetricsSample(2, metrics={"loss": 0.25}))
    student.emit(ConfigEvent({"lr": 0.1}))
    assert_type(student.activate(), Run)
    assert_type(student.bus, Bus)
    assert_type(student.is_recording, bool)
    if student.journal is not None:
        print(student.journal.path)


# Statuses and counts, which an editor completes.
def verdict_on(run: Run) -> str:
    assert_type(run.status, Literal["RUNNING", "FINISHED", "FAILED", "KILLED"])
    assert_type(run.counts, Counts)
    assert_type(run.counts.shipped, int)
    shipped, rejected, dropped = run.counts
    if run.status == "DONE":  # type: ignore[comparison-overlap]  # pyright: ignore[reportUnnecessaryComparison]
        return "never"
    return f"{shipped} {rejected} {dropped}"


student.finish("KILLED")
trackside.finish("FAILED")
student.finish("DONE")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type(trackside.current_run(), Run | None)
trackside.start("child", parent=student).finish()

"""What a run offers, the same on every rank and in every mode."""

from typing import Any, Literal

from typing_extensions import assert_type

import trackside
from trackside import Bus, ConfigEvent, LifecycleEvent, MetricsSample, Run
from trackside.session.run import Counts
from trackside.testing import MemorySink, capture

# Two runs on two buses read like one.
teacher = trackside.start("distillation", run_name="teacher", bus=Bus("teacher"))
student = trackside.start("distillation", run_name="student", bus=Bus("student"), parent=teacher)
teacher.log({"loss": 0.5}, step=0)
student.log({"loss": 0.7}, step=0, epoch=0.5, prefix="val")
student.bus.log({"loss": 0.7}, step=1)
student.emit(MetricsSample(step=2, metrics={"loss": 0.6}))
student.emit(ConfigEvent({"lr": 0.1}))
student.emit(LifecycleEvent("terminating"))

# What you read has a type, without a look at the kind of run.
assert_type(student, Run)
assert_type(student.run_id, str | None)
assert_type(student.url, str)
assert_type(student.tracking_uri, str)
assert_type(student.status, Literal["RUNNING", "FINISHED", "FAILED", "KILLED"])
assert_type(student.counts, Counts)
assert_type(student.counts.shipped + student.dropped, int)
assert_type(student.is_recording, bool)
assert_type(student.flush(), bool)
assert_type(student.activate(), Run)
assert_type(trackside.current_run(), Run | None)
shipped, rejected, dropped = student.counts
assert_type(rejected, int)

with student as entered:
    assert_type(entered, Run)

student.finish("KILLED")
trackside.finish(status="FAILED", bus=teacher.bus)
student.finish("RUNNING")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
student.finish("finished")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
student.status = "FAILED"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
trackside.start(parent="teacher")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

with capture() as logged:
    assert_type(logged, MemorySink)
    assert_type(logged.metrics("loss"), list[tuple[Any, float]])

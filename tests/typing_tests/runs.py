"""What a run offers, the same on every rank and in every mode."""

from typing import Any, Literal

from typing_extensions import assert_type

import trackside
from trackside import ArtifactEvent, Bus, ConfigEvent, LifecycleEvent, MetricsSample, Run
from trackside.artifact_events import ImageEvent
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

# Everything that is kept as files: the same calls on the module, a run and a bus.
trackside.log_artifact("model.pt", "checkpoints", policy="latest")
trackside.log_text("hello", "hello.txt")
trackside.log_image([[0, 255]], key="samples", step=1)
student.log_image([[0, 255]], "first.png")
student.bus.log_table({"a": [1]}, "rows.json")
trackside.log_checkpoint(path="last.pt", step=1, metrics={"loss": 0.5}, name="last")
trackside.log_text("hello")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
trackside.log_artifact(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
student.log_artifact("a", policy="soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
trackside.emit(ImageEvent(image=None, key="samples", step=1))

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
    assert_type(logged.artifacts, list[ArtifactEvent])
    assert_type(logged.artifact("samples"), ArtifactEvent)

"""A watch numbers its samples as the user numbers the logs."""

from __future__ import annotations

from trackside.watching.step_numbers import OwnLog, StepNumbers


def numbers(loop: list[int | None]) -> list[int]:
    """What each step of the optimizer would be logged as. ``loop``: the step that is logged after it."""
    steps, latest, found = StepNumbers(), None, []
    for logged in loop:
        steps.note_step(latest)
        found.append(steps.number(steps.count))
        latest = latest if logged is None else logged
    return found


def test_counted_from_zero() -> None:
    """A loop that logs each step, from 0."""
    assert numbers([0, 1, 2, 3]) == [0, 1, 2, 3]


def test_counted_from_one() -> None:
    """The first number is a guess, for which a watch waits until it knows more."""
    assert numbers([1, 2, 3, 4])[1:] == [2, 3, 4]


def test_several_batches_a_step() -> None:
    """With gradient accumulation, people count batches: each step of the optimizer is four of them."""
    assert numbers([4, 8, 12, 16, 20])[2:] == [12, 16, 20]


def test_a_log_every_ten_steps() -> None:
    """Between the logs the numbers go on."""
    loop = [step if step % 10 == 0 else None for step in range(31)]
    assert numbers(loop) == list(range(31))


def test_a_resumed_training() -> None:
    """It goes on from the step it was resumed at."""
    assert numbers([1000, 1001, 1002])[1:] == [1001, 1002]


def test_validation_logged_by_epoch() -> None:
    """A log with a lower number in between does not set the numbers back."""
    steps = StepNumbers()
    for step in range(50):
        steps.note_step(step - 1 if step else None)
    steps.note_step(2)
    assert steps.number(steps.count) == 50


def test_a_step_that_the_optimizer_skipped() -> None:
    """A GradScaler leaves out a step: the next log says so."""
    steps = StepNumbers()
    for latest in (None, 0, 1, 3):
        steps.note_step(latest)
    assert steps.number(steps.count) in {4, 5}
    for latest in (4, 5, 6):
        steps.note_step(latest)
    assert steps.number(steps.count) == 7


def test_what_a_watch_has_logged_is_no_log_of_the_user() -> None:
    """Or two watches would lead each other away."""
    own = OwnLog(100, before=7)
    assert own.users_step(100) == 7
    assert own.users_step(101) == 101


def test_never_negative() -> None:
    """A measurement from before the first log is not numbered below 0."""
    steps = StepNumbers()
    for latest in (None, None, None, 0):
        steps.note_step(latest)
    assert steps.number(1) == 0

"""However many lifecycle events there are, few are kept, and they mean the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trackside.events import LifecycleEvent
from trackside.lifecycle.evidence import evidence_from
from trackside.lifecycle.kept_events import LIMIT, keep
from trackside.lifecycle.subscriber import LifecycleSubscriber
from trackside.lifecycle.verdict import decide

KINDS = ["started", "crashed", "thread_crashed", "task_crashed", "terminating", "exit_cause", "exited"]
KINDS += ["finishing", "finished"]
EVENTS = st.builds(
    LifecycleEvent,
    st.sampled_from(KINDS),
    st.sampled_from([None, "FINISHED", "FAILED", "KILLED"]),
    st.sampled_from(["", "a", "b"]),
    signal=st.sampled_from([None, 15]),
    exit_code=st.sampled_from([None, 0, 3]),
    error_type=st.sampled_from([None, "ValueError", "KeyboardInterrupt"]),
    timestamp_ms=st.integers(1, 99),
)


@given(st.lists(EVENTS, max_size=60).map(lambda events: sorted(events, key=lambda e: e.timestamp_ms)))
def test_what_is_kept_means_what_all_of_them_do(events: list[LifecycleEvent]) -> None:
    """The same verdict, from no more than a few of each kind and status."""
    kept: list[LifecycleEvent] = []
    for event in events:
        kept = keep(kept, event)
    assert decide(evidence_from(kept)) == decide(evidence_from(events))
    kinds = [(event.kind, event.status) for event in kept]
    assert max(map(kinds.count, kinds), default=0) <= LIMIT


def test_a_thread_that_crashes_at_every_step_adds_nothing() -> None:
    """The first few are kept, and the status is theirs."""
    subscriber = LifecycleSubscriber()
    for number in range(500):
        subscriber.on_lifecycle(LifecycleEvent("thread_crashed", message=str(number), error_type="OSError"))
    assert [record.message for record in subscriber._records] == ["0", "1", "2"]
    assert subscriber.status == "FAILED"

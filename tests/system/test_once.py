"""Things that are logged once."""

import os
import threading

from trackside.system.once import Once


def test_a_key_is_new_once() -> None:
    """Other keys are not affected."""
    once = Once()
    assert [once.is_first(key) for key in ("a", "a", "b", ("a", 1), "a")] == [True, False, True, True, False]
    assert "b" in once
    assert "c" not in once


def test_keys_do_not_pile_up() -> None:
    """A full collection calls nothing new, and keeps nothing more."""
    once = Once(limit=3)
    assert [once.is_first(key) for key in range(5)] == [True, True, True, False, False]
    assert once.is_full
    assert len(once) == 3
    assert not once.is_first(0)


def test_one_of_many_threads_logs() -> None:
    """However many meet the same fault at the same moment."""
    once, starts = Once(), threading.Barrier(8)
    firsts: list[int] = []

    def meet() -> None:
        starts.wait()
        firsts.extend(key for key in range(200) if once.is_first(key))

    threads = [threading.Thread(target=meet) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(firsts) == list(range(200))


def test_a_forked_child_repeats_nothing() -> None:
    """It knows what its parent has logged, and what it logs itself is its own."""
    once = Once()
    once.is_first("parent")
    child = os.fork()
    if child == 0:
        os._exit(0 if not once.is_first("parent") and once.is_first("child") else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert once.is_first("child")

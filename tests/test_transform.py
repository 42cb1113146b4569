"""Transform: what comes out, that nothing vanishes, and that a restart changes nothing."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from trackside.errors import ConfigurationError
from trackside.transform import Transform, Transformed, Transformer, make_transform

Fed = tuple[int, int, dict[str, float]]


def transform(points: list[Fed], **options: Any) -> list[Transformed]:
    """Everything that comes out of a transformer, the end included."""
    transform = make_transform(options)
    assert transform is not None
    transformer = Transformer(transform)
    out = [transformed for point in points for transformed in transformer.feed(*point)]
    return out + transformer.flush()


def values(transformed: list[Transformed], name: str) -> list[tuple[int, float]]:
    """The points of one metric."""
    return [(item.step, item.metrics[name]) for item in transformed if name in item.metrics]


# What is declared


@pytest.mark.wheel
def test_nothing_declared_is_nothing() -> None:
    """None stays None, and a Transform is checked like a mapping."""
    assert make_transform(None) is None
    assert make_transform({}) == Transform()
    assert make_transform(Transform(every_n_steps=5)) == Transform(every_n_steps=5)
    with pytest.raises(ConfigurationError, match="every_n_steps"):
        make_transform(Transform(every_n_steps=0))


def test_lists_and_mappings_of_any_make() -> None:
    """A text is one glob. OmegaConf's lists and mappings are lists and mappings."""
    assert make_transform({"include": "train/*"}) == Transform(include=("train/*",))
    config = OmegaConf.create(
        {"include": ["a", "b"], "rename": {"a": "c"}, "every_seconds": 2, "ranks": [0, 1]}
    )
    wanted = Transform(include=("a", "b"), rename={"a": "c"}, every_seconds=2.0, ranks=(0, 1))
    assert make_transform(config) == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inclde": ["a"]}, "unknown key of transform 'inclde'; did you mean 'include'"),
        ({"every_n_step": 5}, "did you mean 'every_n_steps'"),
        ({"zzz": 5}, "unknown key of transform 'zzz'. Known: every_n_steps"),
        ({"every_n_steps": 0}, "every_n_steps must be 1 or more, not 0"),
        ({"every_n_steps": -3}, "every_n_steps must be 1 or more"),
        ({"every_n_steps": True}, "transform: .*every_n_steps"),
        ({"every_n_steps": "10"}, r"transform: .*every_n_steps"),
        ({"every_seconds": 0}, "every_seconds must be a number above 0"),
        ({"every_seconds": math.nan}, "every_seconds must be a number above 0"),
        ({"every_seconds": math.inf}, "every_seconds must be a number above 0"),
        ({"every_n_steps": 5, "every_seconds": 5}, "not both"),
        ({"every_n_steps": 5, "reduce": "men"}, "'men'; did you mean 'mean'"),
        ({"reduce": "mean"}, "reduce='mean' needs every_n_steps or every_seconds"),
        ({"rename": {"a": "c", "b": "c"}}, "rename gives 'a' and 'b' one name, 'c'"),
        ({"rename": {"a": ""}}, "gives 'a' an empty name"),
        ({"rename": "a"}, "transform: .*rename"),
        ({"include": [1]}, "transform: .*include"),
        ({"include": 1}, "transform: .*include"),
        ({"ranks": []}, "ranks must be numbers from 0"),
        ({"ranks": [-1]}, "ranks must be numbers from 0"),
        ({"prefix": 5}, "transform: .*prefix"),
        ("include", "must be a mapping of options, not str"),
    ],
)
def test_what_makes_no_sense_is_refused(options: Any, message: str) -> None:
    """With a message that says which key, and what it takes."""
    with pytest.raises(ConfigurationError, match=message):
        make_transform(options)


def test_ranks() -> None:
    """Without any named, rank 0 is meant."""
    assert [rank for rank in range(4) if Transform().wants_rank(rank)] == [0]
    assert [rank for rank in range(4) if Transform(ranks=(1, 3)).wants_rank(rank)] == [1, 3]


# Names


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, {"train/loss", "train/lr", "val/loss", "epoch"}),
        ({"include": ["train/*"]}, {"train/loss", "train/lr"}),
        ({"include": ["*/loss", "epoch"]}, {"train/loss", "val/loss", "epoch"}),
        ({"exclude": ["val/*", "e?och"]}, {"train/loss", "train/lr"}),
        ({"include": ["train/*"], "exclude": ["*/lr"]}, {"train/loss"}),
        ({"include": ["TRAIN/*"]}, set()),
        ({"include": ["[tv]*/loss"]}, {"train/loss", "val/loss"}),
        ({"rename": {"train/loss": "loss"}}, {"loss", "train/lr", "val/loss", "epoch"}),
        ({"include": ["train/loss"], "rename": {"train/loss": "a"}, "prefix": "run1"}, {"run1/a"}),
        (
            {"rename": {"train/loss": "val/loss", "val/loss": "train/loss"}, "include": ["*/loss"]},
            {"train/loss", "val/loss"},
        ),
    ],
)
def test_names(options: dict[str, Any], wanted: set[str]) -> None:
    """Globs go by the delivered name, renaming comes after them, the prefix last."""
    metrics = {"train/loss": 1.0, "train/lr": 2.0, "val/loss": 3.0, "epoch": 4.0}
    out = transform([(1, 1000, metrics)], **options)
    assert {name for item in out for name in item.metrics} == wanted
    assert len(out) <= 1


def test_swapped_names_carry_the_others_values() -> None:
    """Renaming is by whole names, all at once."""
    (out,) = transform([(1, 1, {"a": 1.0, "b": 2.0})], rename={"a": "b", "b": "a"})
    assert out.metrics == {"b": 1.0, "a": 2.0}


def test_a_renamed_metric_that_meets_its_new_name_is_not_lost() -> None:
    """Both are given out, of the same step and time."""
    out = transform([(1, 5, {"a": 1.0, "b": 2.0})], rename={"a": "b"})
    assert out == [Transformed(1, 5, {"b": 1.0}), Transformed(1, 5, {"b": 2.0})]


def test_names_made_on_the_fly_do_not_pile_up() -> None:
    """What is remembered of names is bounded."""
    transformer = Transformer(Transform(include=("a*",)))
    for number in range(25_000):
        transformer.feed(number, number, {f"a{number}": 1.0})
    assert len(transformer._names) <= 10_000


# Windows


def test_without_a_window_everything_passes_at_once() -> None:
    """Also what equals the point before."""
    transformer = Transformer(Transform())
    for step in range(3):
        assert transformer.feed(step, step, {"loss": 0.5}) == [Transformed(step, step, {"loss": 0.5})]
    assert transformer.feed(3, 3, {}) == []
    assert transformer.flush() == []
    assert transformer.merged == 0


@pytest.mark.parametrize(
    ("reduce", "wanted"),
    [
        ("last", [(3, 1.0), (7, 5.0), (9, 9.0)]),
        ("mean", [(3, 2.5), (7, 6.5), (9, 8.5)]),
        ("min", [(3, 1.0), (7, 5.0), (9, 8.0)]),
        ("max", [(3, 4.0), (7, 8.0), (9, 9.0)]),
    ],
)
def test_every_n_steps(reduce: str, wanted: list[tuple[int, float]]) -> None:
    """One point a window of n steps, with the step and the time of the last in it."""
    loss = [4.0, 3.0, 2.0, 1.0, 8.0, 7.0, 6.0, 5.0, 8.0, 9.0]
    points: list[Fed] = [(step, step * 10, {"loss": value}) for step, value in enumerate(loss)]
    out = transform(points, every_n_steps=4, reduce=reduce)
    assert values(out, "loss") == wanted
    assert [item.timestamp_ms for item in out] == [30, 70, 90]


def test_a_window_belongs_to_one_metric() -> None:
    """One that is logged rarely is not thinned by one that is logged often."""
    points: list[Fed] = [(step, step, {"train/loss": float(step)}) for step in range(10)]
    points.insert(5, (4, 4, {"val/loss": 0.5}))
    out = transform(points, every_n_steps=5)
    assert values(out, "train/loss") == [(4, 4.0), (9, 9.0)]
    assert values(out, "val/loss") == [(4, 0.5)]


def test_metrics_of_one_step_stay_together() -> None:
    """What closes together and carries the same step and time is one Transformed."""
    points: list[Fed] = [(step, step, {"a": 1.0, "b": 2.0, "c": 3.0}) for step in range(4)]
    assert transform(points, every_n_steps=2) == [
        Transformed(1, 1, {"a": 1.0, "b": 2.0, "c": 3.0}),
        Transformed(3, 3, {"a": 1.0, "b": 2.0, "c": 3.0}),
    ]


def test_every_seconds() -> None:
    """At most one point of each metric for every so many seconds of the samples' own time."""
    points: list[Fed] = [(step, 10_000 + step * 100, {"loss": float(step)}) for step in range(12)]
    assert values(transform(points, every_seconds=0.5), "loss") == [(4, 4.0), (9, 9.0), (11, 11.0)]


def test_time_closes_the_windows_of_metrics_that_no_longer_come() -> None:
    """What is logged once an hour comes out with whatever is logged next."""
    transformer = Transformer(Transform(every_seconds=1.0))
    assert transformer.feed(1, 1_000, {"val/loss": 0.5, "train/loss": 0.7}) == []
    assert transformer.feed(2, 1_900, {"train/loss": 0.6}) == []
    assert transformer.feed(3, 2_000, {"lr": 0.1}) == [
        Transformed(1, 1_000, {"val/loss": 0.5}),
        Transformed(2, 1_900, {"train/loss": 0.6}),
    ]
    assert transformer.flush() == [Transformed(3, 2_000, {"lr": 0.1})]


def test_steps_that_go_backwards_lose_nothing() -> None:
    """A resumed training counts again from its checkpoint: that opens a window anew."""
    points: list[Fed] = [(step, 0, {"loss": float(step)}) for step in (8, 9, 10, 11, 4, 5, 6)]
    assert values(transform(points, every_n_steps=5), "loss") == [(9, 9.0), (11, 11.0), (4, 4.0), (6, 6.0)]


@pytest.mark.parametrize("reduce", ["mean", "min", "max"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_nan_in_the_window_shows(reduce: str, at: int) -> None:
    """A loss that was NaN once must not be hidden by its neighbours."""
    points: list[Fed] = [(step, 0, {"loss": math.nan if step == at else 1.0}) for step in range(3)]
    ((_, value),) = values(transform(points, every_n_steps=3, reduce=reduce), "loss")
    assert math.isnan(value)


def test_what_was_merged_is_counted() -> None:
    """Excluded points and those that became part of another."""
    transformer = Transformer(Transform(exclude=("lr",), every_n_steps=10))
    for step in range(10):
        transformer.feed(step, 0, {"loss": 1.0, "lr": 0.1})
    assert transformer.merged == 19
    assert transformer.flush() == [Transformed(9, 0, {"loss": 1.0})]
    assert transformer.merged == 19


# Properties

NAMES = ["loss", "train/loss", "val/loss", "epoch", "lr"]
FLOATS = st.floats(width=32) | st.sampled_from([math.nan, math.inf, -math.inf, 0.1])
POINTS = st.lists(
    st.tuples(
        st.integers(-50, 50),
        st.integers(0, 20_000),
        st.dictionaries(st.sampled_from(NAMES), FLOATS, max_size=5),
    ),
    max_size=30,
)
REDUCE = st.sampled_from(["last", "mean", "min", "max"])
WINDOWS: st.SearchStrategy[Any] = (
    st.fixed_dictionaries({"every_n_steps": st.integers(1, 20), "reduce": REDUCE})
    | st.fixed_dictionaries({"every_seconds": st.sampled_from([0.003, 0.5, 1, 3]), "reduce": REDUCE})
    | st.just({})
)
GLOBS = st.lists(st.sampled_from(["*", "*/loss", "train/*", "loss", "e*", "[lv]*"]), max_size=2)
OPTIONS = st.builds(
    lambda window, names: {**window, **names},
    WINDOWS,
    st.fixed_dictionaries(
        {},
        optional={
            "include": GLOBS,
            "exclude": GLOBS,
            "rename": st.sampled_from([{"loss": "lr"}, {"loss": "x"}, {"loss": "lr", "lr": "loss"}]),
            "prefix": st.just("p"),
        },
    ),
)


def comparable(transformed: list[Transformed]) -> list[str]:
    """Equal texts for equal points, NaN included."""
    return [repr(item) for item in transformed]


@given(POINTS, OPTIONS)
def test_nothing_vanishes(points: list[Fed], options: dict[str, Any]) -> None:
    """Points given out and points merged are the points that went in, at every moment."""
    transformer = Transformer(make_transform(options) or Transform())
    fed = given_out = 0
    for point in points:
        fed += len(point[2])
        given_out += sum(len(item.metrics) for item in transformer.feed(*point))
        assert given_out + transformer.merged + len(transformer.state()["open"]) == fed
    given_out += sum(len(item.metrics) for item in transformer.flush())
    assert given_out + transformer.merged == fed
    assert transformer.flush() == []


@given(POINTS, OPTIONS, st.data())
def test_a_restart_changes_nothing(points: list[Fed], options: dict[str, Any], data: Any) -> None:
    """Cut anywhere, as often as you like, its state through JSON: the same points, the same count."""
    transform = make_transform(options) or Transform()
    whole, parts = Transformer(transform), Transformer(transform)
    cuts = data.draw(st.sets(st.integers(0, max(0, len(points) - 1))))
    expected, found = [], []
    for number, point in enumerate(points):
        if number in cuts:
            parts = Transformer(transform, json.loads(json.dumps(parts.state(), allow_nan=False)))
        expected += whole.feed(*point)
        found += parts.feed(*point)
    parts = Transformer(transform, json.loads(json.dumps(parts.state(), allow_nan=False)))
    assert comparable(found + parts.flush()) == comparable(expected + whole.flush())
    assert parts.merged == whole.merged


@given(POINTS, st.integers(1, 20))
def test_last_is_a_selection(points: list[Fed], every: int) -> None:
    """Nothing comes out that did not go in, and the last point of each metric always does."""
    out = transform(points, every_n_steps=every)
    for name in NAMES:
        went_in = [(step, repr(metrics[name])) for step, _, metrics in points if name in metrics]
        came_out = [(step, repr(value)) for step, value in values(out, name)]
        assert set(came_out) <= set(went_in)
        assert (went_in[-1] in came_out) if went_in else not came_out


@given(POINTS)
def test_windows_of_one_step_change_only_repetitions(points: list[Fed]) -> None:
    """``every_n_steps=1`` gives each step's last value."""
    rising: list[Fed] = [(number, number, metrics) for number, (_, _, metrics) in enumerate(points)]
    out = transform(rising, every_n_steps=1)
    for name in NAMES:
        went_in = [(step, repr(metrics[name])) for step, _, metrics in rising if name in metrics]
        assert [(step, repr(value)) for step, value in values(out, name)] == went_in

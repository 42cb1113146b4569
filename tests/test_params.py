"""Nested configuration to plain data and to flat strings."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import enum
import functools
import json
import pathlib
import sys
import types
from datetime import date
from decimal import Decimal
from typing import Any

import attrs
import msgspec
import numpy as np
import pydantic
import pydantic.v1
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import MISSING, DictConfig, OmegaConf

from tests.support.program import run_python
from trackside import params as params_module
from trackside.errors import CoercionError
from trackside.params import flatten_params, to_plain

SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=4)
KEYS = st.text(alphabet="abxy_", min_size=1, max_size=3)
NESTED = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS,
        lambda inner: st.dictionaries(KEYS, inner, max_size=3) | st.lists(inner, max_size=2),
        max_leaves=12,
    ),
    max_size=4,
)


class Colour(enum.Enum):
    RED = 1


class Mode(str, enum.Enum):
    FAST = "fast"


class Level(enum.IntEnum):
    HIGH = 3


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Optim:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    unset: int = dataclasses.field(init=False)


class Angry:
    """An object without any text."""

    def __repr__(self) -> str:
        raise ValueError("no text")


def seed_flatten(
    config: dict[str, Any], max_depth: int | None, prefix: str = "", depth: int = 0
) -> dict[str, str]:
    """What the seed's documentation says, for configs without empty dicts or clashing keys."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, dict) and (max_depth is None or depth < max_depth):
            flat.update(seed_flatten(value, max_depth, name, depth + 1))
        else:
            flat[name] = str(value)
    return flat


def count_leaves(value: Any) -> int:
    """How many leaves a nested dict has. An empty dict is one."""
    if isinstance(value, dict) and value:
        return sum(map(count_leaves, value.values()))
    return 1


# to_plain: what counts as a config


class Pydantic(pydantic.BaseModel):
    lr: float = 1e-3
    colour: Colour = Colour.RED
    inner: dict[str, Any] = {"path": pathlib.Path("/data")}
    token: pydantic.SecretStr = pydantic.SecretStr("hush")
    hidden: str = pydantic.Field(default="hidden", exclude=True)


class PydanticOne(pydantic.v1.BaseModel):
    lr: float = 1e-3
    inner: Any = Optim()


class Struct(msgspec.Struct):
    lr: float = 1e-3
    inner: Any = None


@attrs.define
class Attrs:
    lr: float = 1e-3
    inner: Any = None


class HasToDict:
    def to_dict(self) -> dict[str, Any]:
        return {"lr": 1e-3, "inner": Optim()}


class HasToYamlDict(HasToDict):
    def __init__(self) -> None:
        self.asked_for_originals = False

    def to_yaml_dict(self, use_orig_values: bool = False) -> dict[str, Any]:
        self.asked_for_originals = use_orig_values
        return {"lr": "${LR}"}


class HasPlainToYamlDict:
    def to_yaml_dict(self) -> dict[str, Any]:
        return {"lr": 2}


@pytest.mark.parametrize(
    "config",
    [
        {"lr": 1e-3},
        collections.OrderedDict(lr=1e-3),
        types.MappingProxyType({"lr": 1e-3}),
        argparse.Namespace(lr=1e-3),
        types.SimpleNamespace(lr=1e-3),
        Pydantic(),
        PydanticOne(),
        Struct(),
        Attrs(),
        HasToDict(),
        Optim(),
        OmegaConf.create({"lr": 1e-3}),
    ],
    ids=lambda config: type(config).__name__,
)
def test_configs_of_every_kind(config: object) -> None:
    """At the top and inside one another, in lists too."""
    assert to_plain(config)["lr"] == 1e-3
    nested = to_plain({"a": [{"b": config}]})
    assert nested["a"][0]["b"] == to_plain(config)
    assert json.loads(json.dumps(nested)) == nested


def test_pydantic_models_are_dumped_as_their_author_wished() -> None:
    """Excluded fields stay out, secret ones stay secret."""
    assert to_plain(Pydantic()) == {
        "lr": 1e-3,
        "colour": "Colour.RED",
        "inner": {"path": "/data"},
        "token": "**********",
    }


def test_a_pydantic_model_whose_serialiser_fails_is_read_by_field() -> None:
    """The config is what matters, not its JSON form."""

    class Failing(pydantic.BaseModel):
        lr: float = 0.5

        @pydantic.field_serializer("lr")
        def fail(self, _lr: float) -> float:
            raise RuntimeError

    assert to_plain(Failing()) == {"lr": 0.5}


def test_dataclass_fields_that_are_not_set_are_left_out() -> None:
    """Some are filled in by a later step of the program."""
    assert to_plain(Optim()) == {"lr": 1e-3, "betas": [0.9, 0.95]}


def test_to_yaml_dict_is_asked_for_the_original_values() -> None:
    """NeMo's ConfigNode keeps secrets as references to the environment that way."""
    config = HasToYamlDict()
    assert to_plain(config) == {"lr": "${LR}"}
    assert config.asked_for_originals
    assert to_plain(HasPlainToYamlDict()) == {"lr": 2}


def test_to_dict_that_raises_gives_way_to_the_fields() -> None:
    """A half-built object is still worth logging."""

    @dataclasses.dataclass
    class Half:
        lr: float = 0.5

        def to_dict(self) -> dict[str, Any]:
            raise RuntimeError

    assert to_plain(Half()) == {"lr": 0.5}


@pytest.mark.parametrize(
    "config", [3, 1.5, "text", None, [1], (1,), {1}, Colour.RED, Optim, torch.ones(2), object()]
)
def test_what_is_no_config_is_refused(config: object) -> None:
    """With a TypeError that says what would do."""
    with pytest.raises(CoercionError, match="config must be a mapping"):
        to_plain(config)
    with pytest.raises(TypeError, match=type(config).__name__):
        flatten_params(config)


# OmegaConf


def test_omegaconf_interpolations_are_resolved() -> None:
    """What ran is logged, not how it was written."""
    config = OmegaConf.create({"a": 3, "b": "${a}", "l": ["${a}", {"c": "${b}"}], "none": None})
    assert to_plain(config) == {"a": 3, "b": 3, "l": [3, {"c": 3}], "none": None}


def test_missing_and_broken_omegaconf_values_are_text() -> None:
    """One bad value costs neither the run nor the other values."""
    config = OmegaConf.create(
        {
            "missing": "???",
            "broken": "${nowhere.to.be.found}",
            "circle": "${circle}",
            "resolver": "${no_such_resolver:1}",
            "good": "${a}",
            "a": 1,
            "nested": {"l": ["${a}", "${nope}", "???"], "ok": 2},
        }
    )
    assert to_plain(config) == {
        "missing": "???",
        "broken": "${nowhere.to.be.found}",
        "circle": "${circle}",
        "resolver": "${no_such_resolver:1}",
        "good": 1,
        "a": 1,
        "nested": {"l": [1, "${nope}", "???"], "ok": 2},
    }


def test_structured_omegaconf_configs() -> None:
    """Dataclasses inside OmegaConf, with a value that was never given."""

    @dataclasses.dataclass
    class Structured:
        lr: float = MISSING
        colour: Colour = Colour.RED

    assert to_plain(OmegaConf.structured(Structured)) == {"lr": "???", "colour": "Colour.RED"}


@pytest.mark.parametrize("content", [None, "???", "${nope}"])
def test_omegaconf_nodes_without_content(content: Any) -> None:
    """A whole branch may be missing."""
    assert to_plain({"a": 1, "cfg": DictConfig(content)}) == {"a": 1, "cfg": content}


# What to_plain makes of a leaf


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Colour.RED, "Colour.RED"),
        (Mode.FAST, "fast"),
        (Level.HIGH, "Level.HIGH"),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (torch.bfloat16, "torch.bfloat16"),
        (torch.device("cuda:1"), "cuda:1"),
        (torch.optim.AdamW, "torch.optim.adamw.AdamW"),
        (len, "len"),
        (to_plain, "trackside.params.to_plain"),
        (Decimal("1.50"), "1.50"),
        (date(2026, 11, 22), "2026-11-22"),
        (b"\xff", "b'\\xff'"),
        (1 + 2j, "(1+2j)"),
        (range(3), "range(0, 3)"),
        ({3, 1, 20}, [1, 3, 20]),
        (frozenset("ba"), ["a", "b"]),
        ({None, "a", 1}, [None, 1, "a"]),
        (collections.deque([1, 2]), [1, 2]),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.longdouble(1), "1.0"),
        (np.arange(3), [0, 1, 2]),
        (np.ones(100), "numpy.ndarray(shape=(100,), dtype=float64)"),
        (torch.tensor([1, 2]), [1, 2]),
        (torch.ones(9, 9), "torch.Tensor(shape=(9, 9), dtype=torch.float32)"),
        (torch.ones(2, device="meta"), "torch.Tensor(shape=(2,), dtype=torch.float32)"),
        (2**64, str(2**64)),
        (2**64 - 1, 2**64 - 1),
        ("lone \ud800", "lone \\ud800"),
        ("naïve", "naïve"),
    ],
    ids=lambda _: "leaf",  # texts of the values hold addresses and set orders, which differ by process
)
def test_leaves_are_readable(value: object, expected: object) -> None:
    """Values of common libraries, as what one would have written in the config."""
    result = to_plain({"k": value})["k"]
    assert result == expected
    assert type(result) is type(expected)


def test_flags_without_a_name_and_enormous_ints() -> None:
    """Neither has a usual text. Both get one."""
    assert "READ" in to_plain({"k": Access.READ | Access.WRITE})["k"]
    assert to_plain({"k": 16**9999})["k"] == hex(16**9999)


def test_texts_hold_no_memory_addresses() -> None:
    """A resumed run must not find its params changed."""
    adamw: Any = torch.optim.AdamW
    partial = functools.partial(adamw, object(), lr=0.1, fn=lambda: 0)
    text = to_plain({"o": object(), "p": partial})
    assert text["o"] == "<object object>"
    assert text["p"].startswith("partial(torch.optim.adamw.AdamW, '<object object>', lr=0.1, fn=")
    assert "0x" not in text["p"]


def test_tables_are_not_poured_out() -> None:
    """A data set has to_dict() too."""

    class Table:
        def to_dict(self) -> dict[str, Any]:
            raise AssertionError("read the whole table")

        def to_pandas(self) -> None: ...

    assert "Table object" in to_plain({"data": Table()})["data"]


def test_objects_without_text_do_not_raise() -> None:
    """As a value, as a key, and inside a set or a partial."""
    plain = to_plain({"a": Angry(), "s": {Angry()}, "p": functools.partial(repr, Angry()), Angry(): 1})
    expected = f"<{__name__}.Angry: its text raised ValueError>"
    assert plain == {
        "a": expected,
        "s": [expected],
        "p": f"partial(repr, {expected!r})",
        expected: 1,
    }


def test_a_mapping_that_breaks_is_text() -> None:
    """A lazy config that cannot be loaded does not stop the run."""

    class Broken(dict[str, Any]):
        def items(self) -> Any:
            raise OSError

    assert to_plain({"a": Broken(b=1)}) == {"a": "{'b': 1}"}


def test_keys_become_strings_and_none_is_lost() -> None:
    """Keys that become the same string are told apart."""
    plain = to_plain({1: "a", "1": "b", None: "c", Mode.FAST: "d", (1, 2): "e", Colour.RED: "f"})
    assert plain == {
        "1": "a",
        "1-2": "b",
        "None": "c",
        "fast": "d",
        "(1, 2)": "e",
        "Colour.RED": "f",
    }


def test_cycles_end() -> None:
    """A config that holds itself says so. One held twice is shown twice."""
    shared = {"x": 1}
    config: dict[str, Any] = {"one": shared, "two": shared, "list": []}
    config["self"] = config
    config["list"].append(config["list"])
    assert to_plain(config) == {
        "one": {"x": 1},
        "two": {"x": 1},
        "list": ["<cycle: list>"],
        "self": "<cycle: dict>",
    }


def test_very_deep_nesting_ends() -> None:
    """Deeper than Python can recurse, with objects that unfold for ever too."""

    class Endless:
        def to_dict(self) -> dict[str, Any]:
            return {"again": Endless()}

    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"d": deep}
    flat = flatten_params({"deep": deep, "endless": Endless()}, max_depth=None)
    assert len(flat) == 2
    assert all("nested deeper than 50 levels" in value for value in flat.values())
    while deep:  # freeing it level by level: the interpreter would recurse
        deep = deep.pop("d")


def test_a_config_that_multiplies_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists of lists shared thirty levels deep would fill the memory."""
    monkeypatch.setattr(params_module, "_MAX_NODES", 1000)
    bomb: list[Any] = ["x"]
    for _ in range(12):
        bomb = [bomb, bomb]
    assert "too large" in str(to_plain({"bomb": bomb}))


@given(NESTED)
def test_plain_data_is_its_own_plain_form(config: dict[str, Any]) -> None:
    """Dicts, lists and scalars go through unchanged."""
    assert repr(to_plain(config)) == repr(config)


# flatten_params

CONFIG = {
    "model": {"name": "llama", "text_config": {"output_hidden_states": True}},
    "betas": (0.9, 0.95),
    "layers": [1, {"a": 2}],
    "seed": None,
}


@pytest.mark.parametrize(
    ("max_depth", "expected"),
    [
        (0, {"model": "{'name': 'llama', 'text_config': {'output_hidden_states': True}}"}),
        (1, {"model.name": "llama", "model.text_config": "{'output_hidden_states': True}"}),
        (2, {"model.name": "llama", "model.text_config.output_hidden_states": "True"}),
        (None, {"model.name": "llama", "model.text_config.output_hidden_states": "True"}),
    ],
)
def test_depth_says_how_many_levels_get_keys(max_depth: int | None, expected: dict[str, str]) -> None:
    """Below, and in lists and tuples, values are stringified."""
    rest = {"betas": "(0.9, 0.95)", "layers": "[1, {'a': 2}]", "seed": "None"}
    assert flatten_params(CONFIG, max_depth) == {**expected, **rest}


def test_one_level_by_default() -> None:
    """As in the seed."""
    assert flatten_params(CONFIG) == flatten_params(CONFIG, max_depth=1)


@given(NESTED, st.none() | st.integers(0, 4))
def test_flattening_never_loses_a_leaf(config: dict[str, Any], max_depth: int | None) -> None:
    """Keys and values are the seed's, and empty dicts are leaves."""
    flat = flatten_params(config, max_depth)
    assert flat.items() >= seed_flatten(config, max_depth).items()
    if max_depth is None:
        assert len(flat) == count_leaves(config) - (not config)


@given(st.dictionaries(st.sampled_from(["a", "a.b", "a.b.c", "a.b-2"]), NESTED | SCALARS))
def test_clashing_keys_lose_no_leaf(config: dict[str, Any]) -> None:
    """Dots in keys may build a key that is there already."""
    assert len(flatten_params(config, None)) == count_leaves(config) - (not config)


def test_two_keys_that_fall_together_are_both_kept() -> None:
    """The later one gets a number, the same at every run."""
    assert flatten_params({"a": {"b": 1}, "a.b": 2}) == {"a.b": "1", "a.b-2": "2"}
    assert flatten_params({"a.b": 2, "a": {"b": 1}, "a.b-2": 3}) == {
        "a.b": "2",
        "a.b-2": "1",
        "a.b-2-2": "3",
    }


def test_empty_dicts_do_not_vanish() -> None:
    """That nothing was configured is a configuration."""
    assert flatten_params({"a": {}, "b": {"c": {}}}, None) == {"a": "{}", "b.c": "{}"}
    assert flatten_params({}) == {}


def test_secrets_are_masked_at_every_depth() -> None:
    """With a key of their own, inside a stringified dict or list, and in URIs."""
    config = {
        "hub": {"hf_token": "t0p", "max_tokens": 5, "deep": {"api_key": "t0p", "lr": 1}},
        "stores": [{"uri": "postgresql://u:t0p@h/db"}, ("redis://:t0p@h",)],
    }
    for depth in (0, 1, None):
        assert "t0p" not in str(flatten_params(config, depth))
    assert flatten_params(config)["hub.deep"] == "{'api_key': '***', 'lr': 1}"
    assert flatten_params(config)["stores"] == "[{'uri': 'postgresql://***@h/db'}, ('redis://***@h',)]"
    assert flatten_params(config)["hub.max_tokens"] == "5"


def test_masking_can_be_switched_off() -> None:
    """For who knows what they do."""
    assert flatten_params({"password": "x"}, mask=False) == {"password": "x"}


def test_the_same_config_is_flat_the_same_in_every_process() -> None:
    """Sets and hashes are not random, so a resumed run finds its params unchanged."""
    code = (
        "from trackside.params import flatten_params as f;"
        "print(f({'s': {'b', 'a', 'c'}, 'o': object(), 'f': len, 'k': {1: {2: {'x', 'y'}}}}))"
    )
    outputs = {
        run_python(
            "-X",
            "utf8",
            "-c",
            code,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1


def test_importing_params_pulls_in_no_heavy_library() -> None:
    """Objects of these libraries are recognised without importing them."""
    code = "import sys, trackside.params; print(*sys.modules)"
    done = run_python("-c", code, check=True)
    heavy = {"torch", "numpy", "mlflow", "omegaconf", "pydantic", "attrs"}
    assert heavy.isdisjoint(done.stdout.split())

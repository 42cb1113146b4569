"""What a program sees of trackside's log, and that the documentation names every logger and field."""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path

import pytest

import trackside
from tests.support.program import run_python
from trackside.coerce import to_float_metrics
from trackside.event_bus.bus import FAULTS_BEFORE_DETACH, Bus

SOURCE = Path(trackside.__file__).parent
PAGE = (Path(__file__).parents[1] / "docs" / "logging.md").read_text("utf-8")
FOREIGN = {"asyncio"}


def calls_of(name: str) -> list[ast.Call]:
    """Every call of a method or function of that name in the source."""
    texts = [path.read_text("utf-8") for path in SOURCE.rglob("*.py")]
    return [
        node
        for text in texts
        if name in text
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name
    ]


def first_column(heading: str) -> set[str]:
    """What the table below that heading lists."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))


def test_the_page_names_every_logger() -> None:
    """Each name is written out in the code, so that moving a module renames no logger."""
    names = set()
    for call in calls_of("getLogger"):
        (argument,) = call.args
        assert isinstance(argument, (ast.Constant, ast.Name)), ast.unparse(call)
        if isinstance(argument, ast.Constant):
            names.add(argument.value)
        else:
            assert argument.id == "name", ast.unparse(call)  # the one that looks at any logger
    assert len(names) > 5
    assert names - FOREIGN == first_column("Loggers")


def test_the_page_names_every_field() -> None:
    """A field that is set is documented, and the other way round."""
    set_somewhere = set(
        re.findall(r"\"(trackside_\w+)\": ", "".join(p.read_text("utf-8") for p in SOURCE.rglob("*.py")))
    )
    assert set_somewhere == first_column("Fields")


def run(script: str) -> str:
    """What the script writes to stderr."""
    done = run_python("-c", f"import logging, trackside\n{script}", check=True)
    return done.stderr


WARN = "logging.getLogger('trackside.session').warning('metrics are lost')\n"
INFO = "logging.getLogger('trackside.session').info('fine')\n"


def test_warnings_reach_a_program_that_set_up_no_logging() -> None:
    """As Python shows those of any logger. Nothing is lost silently."""
    assert run(WARN + INFO) == "metrics are lost\n"


def test_the_programs_settings_decide() -> None:
    """A warning is shown once, by its handlers, wherever these are."""
    assert run("logging.basicConfig(format='LOG %(message)s')\n" + WARN) == "LOG metrics are lost\n"
    on_ours = "h = logging.StreamHandler(); logging.getLogger('trackside').addHandler(h)\n"
    assert run(on_ours + WARN) == "metrics are lost\n"
    on_one = "logging.getLogger('trackside.session').addHandler(logging.StreamHandler())\n"
    assert run(on_one + WARN) == "metrics are lost\n"


def test_a_program_may_silence_it() -> None:
    """By a handler that does nothing, by a level, or as it silences Python's last resort."""
    for how in (
        "logging.getLogger('trackside').addHandler(logging.NullHandler())",
        "logging.getLogger().addHandler(logging.NullHandler())",
        "logging.getLogger('trackside').setLevel(logging.CRITICAL)",
        "logging.lastResort = None",
    ):
        assert run(f"{how}\n{WARN}") == ""


def test_mlflow_does_not_hide_warnings() -> None:
    """``import mlflow.pytorch`` raises the level of the whole program. Ours is left."""
    raised = "import sys; sys.modules['mlflow.pytorch'] = sys; logging.basicConfig(level=logging.ERROR)\n"
    assert run(raised + WARN + INFO) == "WARNING:trackside.session:metrics are lost\n"
    assert run(raised + "logging.getLogger('other').warning('text')") == ""
    ours = "logging.getLogger('trackside').setLevel(logging.ERROR)\n"
    assert run(ours + raised + WARN) == run(raised + ours + WARN) == ""


def test_mlflow_does_not_hide_the_lines_of_a_run() -> None:
    """That of its end is the one place where a short program learns of its run."""
    raised = "import sys; sys.modules['mlflow.pytorch'] = sys; logging.basicConfig(level=logging.ERROR)\n"
    line = "from trackside.session.announce import announce; announce('run x is FINISHED')"
    assert run(raised + line) == "trackside: run x is FINISHED\n"
    quiet = "logging.getLogger('trackside').setLevel(logging.WARNING)\n"
    assert run(raised + quiet + line) == ""


def test_a_level_that_the_program_chose_is_left() -> None:
    """Without MLflow, ``ERROR`` is what somebody wants. With it, so is everything above and below."""
    raised = "import sys; sys.modules['mlflow.pytorch'] = sys\n"
    assert run("logging.basicConfig(level=logging.ERROR)\n" + WARN) == ""
    assert run(raised + "logging.basicConfig(level=logging.CRITICAL)\n" + WARN) == ""
    assert run(raised + "logging.basicConfig(level=logging.INFO, format='%(message)s')\n" + INFO) == "fine\n"


def test_mlflows_own_import() -> None:
    """That is what it does, where torch is installed."""
    pytest.importorskip("torch")
    assert "metrics are lost\n" in run("import mlflow.pytorch\n" + WARN)


def test_the_handler_is_there_once() -> None:
    """However often the package is loaded."""
    run(
        "import importlib; importlib.reload(trackside)\n"
        "(handler,) = logging.getLogger('trackside').handlers\n"
        "assert isinstance(handler, logging.NullHandler)"
    )


def test_a_record_names_its_metric(caplog: pytest.LogCaptureFixture) -> None:
    """A dropped value, in a field that a filter can use."""
    to_float_metrics({"a metric of test_logging": "text"})
    (record,) = caplog.records
    assert record.trackside_metric == "a metric of test_logging"  # type: ignore[attr-defined]
    assert (record.name, record.levelno) == ("trackside.coerce", logging.WARNING)


def test_a_record_names_its_sink(caplog: pytest.LogCaptureFixture) -> None:
    """The object itself, at its first error and when it is detached."""

    def failing(sample: object) -> None:
        raise ValueError(sample)

    bus = Bus()
    bus.attach(failing)
    for _ in range(FAULTS_BEFORE_DETACH):
        bus.emit(trackside.MetricsSample(0))
    first, last = caplog.records
    assert first.trackside_sink is failing  # type: ignore[attr-defined]
    assert last.trackside_sink is failing  # type: ignore[attr-defined]
    assert last.trackside_faults == FAULTS_BEFORE_DETACH  # type: ignore[attr-defined]

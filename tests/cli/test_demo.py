"""``trackside demo``, as a user runs it, read back from MLflow."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner
from mlflow.entities import LoggedModelStatus, Run
from mlflow.tracking import MlflowClient

import trackside.cli
from tests.ends.harness import new_database
from trackside.cli.demo import _load_training
from trackside.cli.main import main

TRAIN = ("train/loss", "train/accuracy", "train/grad_norm", "train/lr", "epoch")
VALIDATION = ("val/loss", "val/accuracy")
WEIGHTS = tuple(f"weights/{name}" for name in ("min", "p05", "p25", "p50", "p75", "p95", "max"))
STEPS_PER_EPOCH = 22


def command(*arguments: object) -> list[str]:
    """The demo's command line."""
    return [sys.executable, "-m", "trackside", "demo", *map(str, arguments)]


# The machine may be busy with other tests: what is slow must not become a warning.
PATIENCE = {"TRACKSIDE_START_TIMEOUT": "60", "TRACKSIDE_EXIT_TIMEOUT": "60"}


def run_demo(directory: Path, *arguments: object, **environment: str):
    """Run the demo in ``directory``, its output in a pipe."""
    return subprocess.run(
        command(*arguments),
        cwd=directory,
        env={**os.environ, **PATIENCE, **environment},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def runs_in(directory: Path):
    """The client of the embedded store in ``directory``, and its runs, the oldest first."""
    client = MlflowClient(f"sqlite:///{directory / 'mlflow.db'}")
    experiments = [item.experiment_id for item in client.search_experiments()]
    return client, client.search_runs(experiments, order_by=["attributes.start_time ASC"])


def histories(client: MlflowClient, run) -> dict[str, list[int]]:
    """The steps of all points in the store, by metric, in order."""
    return {
        key: sorted(point.step for point in client.get_metric_history(run.info.run_id, key))
        for key in run.data.metrics
    }


def reported(output: str) -> dict[str, str]:
    """The table at the end of the demo's output."""
    names = "run|status|emitted|shipped|rejected|dropped|files"
    return dict(re.findall(rf"^({names}) +(\w+)", output, re.MULTILINE))


def files_below(client: MlflowClient, run_id: str, folder: str | None = None) -> list[str]:
    """The paths of all artifacts of a run, in order."""
    found = client.list_artifacts(run_id, folder)
    return sorted(
        name
        for item in found
        for name in (files_below(client, run_id, item.path) if item.is_dir else [item.path])
    )


LIBRARIES = [pytest.param("torch", marks=pytest.mark.torch), "numpy"]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.process
def test_everything_emitted_is_in_mlflow_once(library: str, tmp_path: Path):
    """60 steps: every point and file once, params, the whole config, FINISHED, and nothing left behind."""
    new_database(tmp_path)
    done = run_demo(tmp_path, "--steps", 60, "--experiment", "mine", "--with", library)
    assert (done.returncode, done.stderr) == (0, "")

    client, (run,) = runs_in(tmp_path)
    steps, looks = list(range(1, 61)), [0, STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH, 60]
    wanted = {**dict.fromkeys(TRAIN, steps), **dict.fromkeys((*VALIDATION, *WEIGHTS), looks)}
    points = str(sum(map(len, wanted.values())))
    found = histories(client, run)
    # MLflow has the metrics of the run's models among its own, so these may be there twice.
    assert {**found, **{key: sorted(set(found[key])) for key in VALIDATION}} == wanted
    assert reported(done.stdout) == {
        "run": run.info.run_id,
        "status": "FINISHED",
        "emitted": points,
        "shipped": points,
        "rejected": "0",
        "dropped": "0",
        "files": str(check_files(client, run, looks, tmp_path)),
    }

    assert f"/runs/{run.info.run_id}/model-metrics?workflowType=machine_learning" in done.stdout
    assert run.info.status == "FINISHED"
    assert run.data.params["model.kind"] == library
    assert client.get_experiment(run.info.experiment_id).name == "mine"
    assert run.data.params["optimizer.lr"] == "0.003"
    assert run.data.metrics["val/accuracy"] > 0.8
    config = yaml.safe_load(
        Path(client.download_artifacts(run.info.run_id, "config.yaml", str(tmp_path))).read_text()
    )
    assert config["optimizer"]["betas"] == [0.9, 0.99]
    assert config["model"]["parameters"] == int(run.data.params["model.parameters"])
    assert not (tmp_path / ".trackside").exists()


def check_files(client: MlflowClient, run: Run, looks: list[int], folder: Path) -> int:
    """Find everything but curves in MLflow. Return how many files were logged."""
    keys = ("val~confusion", "val~predictions", "weights~histogram")
    images = sorted(f"images/{key}+step+{step}" for key in keys for step in looks)
    files = files_below(client, run.info.run_id)
    shown = [path.partition("+timestamp")[0] for path in files if path.startswith("images/")]
    assert sorted(shown) == sorted(2 * images), "a PNG and a small one beside it"

    mistakes = json.loads(
        Path(client.download_artifacts(run.info.run_id, "mistakes.json", str(folder))).read_text()
    )
    assert mistakes["columns"] == ["image", "digit", "predicted", "confidence"]
    assert all(digit != predicted for _, digit, predicted, _ in mistakes["data"])
    assert {image["filepath"] for image, *_ in mistakes["data"]} <= set(files)

    assert run.inputs is not None
    contexts = [item.tags[0].value for item in run.inputs.dataset_inputs]
    assert sorted(contexts) == ["eval", "train"]

    models = client.search_logged_models([run.info.experiment_id])
    assert {model.name: model.status for model in models} == dict.fromkeys(
        (*(f"checkpoint-{step}" for step in looks[1:-1]), "digits"), LoggedModelStatus.READY
    )
    assert all({metric.key for metric in model.metrics or []} == set(VALIDATION) for model in models)
    return len(images) + len(contexts) + len(models) + len(mistakes["data"]) + 1


@pytest.mark.timeout(300)
@pytest.mark.process
@pytest.mark.slow
def test_two_runs_in_an_empty_folder(tmp_path: Path):
    """No terminal, no database and no HOME: plain lines, a command to paste, and two runs."""
    directory, home = tmp_path / "a directory", tmp_path / "nowhere"
    directory.mkdir()
    first, second = (
        run_demo(directory, "--steps", 25, "--with", "numpy", HOME=str(home), PATH="/usr/bin:/bin")
        for _ in range(2)
    )
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert not home.exists()
    _, runs = runs_in(directory)
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]

    assert "\x1b" not in second.stdout
    assert "\r" not in second.stdout
    lines = [line for line in second.stdout.splitlines() if line.startswith("step ")]
    assert 5 <= len(lines) <= 11
    assert lines[-1].startswith("step 25/25  loss ")

    printed = re.search(r"^  (.*mlflow ui .*)$", second.stdout, re.MULTILINE)
    assert printed is not None, second.stdout
    program, *rest = shlex.split(printed[1])
    assert os.access(program, os.X_OK)
    assert rest == ["ui", "--backend-store-uri", f"sqlite:///{directory / 'mlflow.db'}"]


@pytest.mark.process
def test_a_terminal_gets_a_bar(tmp_path: Path):
    """With a terminal the progress is a bar that ends full."""
    new_database(tmp_path)
    ours, theirs = os.openpty()
    environment = {**os.environ, **PATIENCE, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        command("--steps", 5, "--with", "numpy"), cwd=tmp_path, env=environment, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    output = b""
    try:
        while block := os.read(ours, 4096):
            output += block
    except OSError:  # Linux's way of saying that the terminal was hung up
        pass
    os.close(ours)
    assert process.wait(timeout=30) == 0
    assert b"5/5" in output
    assert b"FINISHED" in output


@pytest.mark.process
def test_ctrl_c_ends_the_run_as_killed(tmp_path: Path):
    """Ctrl-C in the middle: a normal message, exit code 130, KILLED, and every point until then."""
    new_database(tmp_path)
    process = subprocess.Popen(
        command("--steps", 3000, "--with", "numpy"),
        cwd=tmp_path,
        env={**os.environ, **PATIENCE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    next(line for line in process.stdout if line.startswith("step "))
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)

    assert (process.returncode, errors) == (130, "")
    assert "interrupted: the training has stopped" in output
    client, (run,) = runs_in(tmp_path)
    assert run.info.status == "KILLED"
    points = histories(client, run)
    last = points["train/loss"][-1]
    assert 300 <= last < 3000
    assert all(points[key] == list(range(1, last + 1)) for key in TRAIN)
    total = str(sum(map(len, points.values())))
    table = reported(output)
    assert (table["status"], table["emitted"], table["shipped"]) == ("KILLED", total, total)


def test_offline_says_where_the_points_are(tmp_path: Path):
    """With TRACKSIDE_MODE=offline nothing is delivered, and the journal and `sync` are named."""
    done = run_demo(tmp_path, "--steps", 3, "--with", "numpy", TRACKSIDE_MODE="offline")
    assert done.returncode == 0, done.stderr
    (journal,) = (tmp_path / ".trackside").iterdir()
    assert f"33 points and 10 files are kept in {journal}" in done.stdout
    assert "To deliver them, run `trackside sync`." in done.stdout


def test_disabled_is_said(monkeypatch: pytest.MonkeyPatch):
    """A demo that would log nothing does not pretend to."""
    monkeypatch.setenv("TRACKSIDE_MODE", "disabled")
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 1
    assert "the demo logs nothing here" in result.output


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    """Without scikit-learn the message says what to install, and there is no traceback."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "sklearn" else name)
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 1
    assert "the demo needs scikit-learn: pip install scikit-learn" in result.output


def load_training(library: str | None):
    """The training that ``--with LIBRARY`` chooses."""
    train, model = _load_training(library)
    return train.__module__.rpartition("_")[2], model["kind"]


@pytest.mark.torch
def test_torch_is_used_where_it_is():
    """Unless numpy is asked for."""
    assert load_training(None) == ("torch", "torch")
    assert load_training("numpy") == ("numpy", "numpy")


def test_without_torch_numpy_trains(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Silently when torch is not installed, with a word when it is broken. Asked for, it is an error."""
    pytest.importorskip("sklearn.datasets")  # as it is loaded, scipy trips over the None below
    monkeypatch.delitem(sys.modules, "trackside.cli.demo_torch", raising=False)
    monkeypatch.delattr(trackside.cli, "demo_torch", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert load_training(None) == ("numpy", "numpy")
    assert capsys.readouterr().err == ""
    with pytest.raises(click.ClickException, match="pip install torch, or use --with numpy"):
        load_training("torch")


def test_a_broken_torch_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Its libraries may be missing or of the wrong kind: the demo continues with numpy."""
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so: cannot open')")
    monkeypatch.delitem(sys.modules, "trackside.cli.demo_torch", raising=False)
    monkeypatch.delattr(trackside.cli, "demo_torch", raising=False)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert load_training(None) == ("numpy", "numpy")
    assert "torch can't be imported (libcudart.so: cannot open)" in capsys.readouterr().err

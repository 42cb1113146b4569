"""Take the pictures of docs/gallery.md: ``python docs/gallery/take.py [NAME...]``.

The script starts an MLflow server, logs a training of ``trackside demo`` and a figure to it, opens MLflow's
pages in a browser, and saves what the browser shows. It needs more than trackside does::

    pip install playwright
    playwright install chromium    # or set CHROMIUM to the path of a Chromium that you have
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
from mlflow import MlflowClient
from PIL import Image
from playwright.sync_api import sync_playwright

import trackside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlflow.entities import Run
    from playwright.sync_api import Page

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
WIDTH = 1200
COLORS = 128
"""A page of text and lines looks the same with so few, and is a third of the size."""
PATIENCE = 60
"""Seconds for the server to start, and for a page to show what is waited for."""

TALL = 3000
SECTION = ".du-bois-light-collapse-header"
CARD = "[data-testid='experiment-view-compare-runs-card']"
# MLflow's assistant opens by itself on a first visit.
NO_ASSISTANT = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"


class Shot(NamedTuple):
    """A picture: the page below the experiment, the height of the window, what to wait for and what to do."""

    page: str
    height: int
    shown: str
    act: Callable[[Page], None] | None = None


def only(section: str) -> Callable[[Page], None]:
    """Show only the charts of ``section``, their images large and of the last step."""

    def act(page: Page) -> None:
        before = page.viewport_size
        page.set_viewport_size({"width": WIDTH, "height": TALL})  # what is out of sight is not on the page
        page.get_by_placeholder("Search metric charts").fill(section)
        settle(page)
        for title in page.locator(SECTION).all():
            if not title.inner_text().startswith(section):
                title.click()  # the search leaves images of other sections
        settle(page)
        hide_params(page)
        last_step(page)
        page.set_viewport_size(before)

    return act


def hide_params(page: Page) -> None:
    """Switch off the run's params above each image: they leave it little room."""
    for card in page.locator(CARD, has=page.get_by_role("slider")).all():
        card.get_by_role("button").nth(1).click()
        page.get_by_role("menuitem", name="Configure").click()
        page.get_by_role("switch", name="Show run parameters").click()
        page.get_by_role("button", name="Save changes").click()
        page.get_by_role("dialog").wait_for(state="hidden")


def last_step(page: Page) -> None:
    """Move the sliders of all images to the last step."""
    for slider in page.get_by_role("slider").all():
        slider.focus()
        while slider.get_attribute("aria-valuenow") != slider.get_attribute("aria-valuemax"):
            page.keyboard.press("ArrowRight")
            page.wait_for_timeout(200)  # the next press would go beyond the end


def scroll_to_metrics(page: Page) -> None:
    """Show the columns with the metrics."""
    page.mouse.move(WIDTH - 300, 230)
    page.mouse.wheel(800, 0)


def scroll_to_models(page: Page) -> None:
    """Show the run's models."""
    page.get_by_text("Logged models (").scroll_into_view_if_needed()


def open_dataset(page: Page) -> None:
    """Open the panel with the datasets."""
    page.get_by_text("digits (").first.click()


RUN = "runs/{run}"
SHOTS = {
    "images": Shot(f"{RUN}/model-metrics", 990, "Auto-refresh", only("val")),
    "table": Shot(f"{RUN}/artifacts/mistakes.json", 800, "confidence"),
    "histogram": Shot(f"{RUN}/model-metrics", 1410, "Auto-refresh", only("weights")),
    "figure": Shot(f"{RUN}/artifacts/figures/learning_curve.png", 640, "learning_curve.png"),
    "checkpoints": Shot(RUN, 780, "Logged models (", scroll_to_models),
    "models": Shot("models", 560, "digits-", scroll_to_metrics),
    "datasets": Shot(RUN, 480, "Datasets", open_dataset),
}


def main(names: list[str]) -> None:
    """Take the pictures with these names, or all of them."""
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as address:
        info = train(address).info
        base = f"{address}/#/experiments/{info.experiment_id}/"
        for name, shot in SHOTS.items():
            if not names or name in names:
                picture = smaller(take(base + shot.page.format(run=info.run_id), shot))
                (HERE / f"{name}.png").write_bytes(picture)
                print(f"{name}.png: {len(picture) // 1024} KiB")


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run an MLflow server in ``folder``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [BIN / "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    stores = ["--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "./artifacts"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen([*command, *stores], cwd=folder, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(f"{address}/health")
        yield address
    finally:
        process.terminate()
        process.wait()


def wait_for(address: str) -> None:
    """Wait until ``address`` answers."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            urllib.request.urlopen(address).close()  # noqa: S310 - our own server
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def train(address: str) -> Run:
    """Log a training of the demo, and a figure beside it. Return the run."""
    subprocess.run([BIN / "trackside", "demo", "--with", "numpy", "--tracking-uri", address], check=True)
    client = MlflowClient(address)
    experiment = client.get_experiment_by_name("digits")
    (run,) = client.search_runs([experiment.experiment_id])
    with trackside.start("digits", run_id=run.info.run_id, resume="always", tracking_uri=address) as resumed:
        log_figure(resumed, client)
    return run


def log_figure(run: trackside.Run, client: MlflowClient) -> None:
    """Log a figure of the run's own losses."""
    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for name in ("train/loss", "val/loss"):
        points = client.get_metric_history(run.run_id, name)
        axes.plot([point.step for point in points], [point.value for point in points], label=name)
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.legend()
    run.log_figure(figure, "figures/learning_curve.png")
    plt.close(figure)


def take(address: str, shot: Shot) -> bytes:
    """Open ``address`` in a browser and return what it shows."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        # Without the sandbox, because it does not work as root.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": shot.height})
        page.set_default_timeout(PATIENCE * 1000)
        page.add_init_script(NO_ASSISTANT)
        page.goto(with_training(address))
        page.get_by_text(shot.shown).first.wait_for()
        settle(page)
        if shot.act is not None:
            shot.act(page)
            settle(page)
        picture = page.screenshot()
        browser.close()
    return picture


def with_training(address: str) -> str:
    """``address`` with MLflow's menu for training, not for GenAI."""
    return f"{address}{'&' if '?' in address else '?'}workflowType=machine_learning"


def settle(page: Page) -> None:
    """Wait until the page has drawn what it has loaded."""
    page.wait_for_timeout(3000)


def smaller(picture: bytes) -> bytes:
    """The same picture with fewer colours."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    file = io.BytesIO()
    image.quantize(COLORS, dither=Image.Dither.NONE).save(file, "png", optimize=True)
    return file.getvalue()


if __name__ == "__main__":
    main(sys.argv[1:])

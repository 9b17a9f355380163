"""Shared by all tests: one thread per process (they run side by side), and small runs."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile

os.environ["OMP_NUM_THREADS"] = "1"
if "SLNLAB_CACHE" not in os.environ:  # xdist's processes inherit it
    os.environ["SLNLAB_CACHE"] = tempfile.mkdtemp(prefix="slnlab-tests-")
    atexit.register(shutil.rmtree, os.environ["SLNLAB_CACHE"], ignore_errors=True)
os.environ.setdefault("WANDB_MODE", "disabled")  # a test that wants W&B says so through logger.mode

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browsing import headless

gc.disable()  # until all is imported; see pytest_collection_finish

if TYPE_CHECKING:  # xdist's first process reads this file and runs no test: it must not pay for torch
    from slnlab.inference.trained_run import TrainedRun
    from slnlab.record.result import Result

TINY = ("data.train_size=100", "trainer.max_epochs=2", "trainer.accelerator=cpu", "trainer.progress=false")
"""Overrides of a run that takes a second."""

LONGEST = (
    "test_every_method",
    "test_every_method_in_two_processes",
    "test_processes",
    "test_launchers",
    "test_clothing1m",
    "test_command_line",
    "test_tune",
    "test_within_epoch",
    "test_kill",
)
"""Files that take minutes. They begin first, so that at the end no worker is left alone with one."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--config-dir", help="a folder of options, whose methods tests/methods/test_every_*.py test")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """All of xdist's workers share one server of warm commands, whose imports take nine seconds."""
    import commands

    node.workerinput["server"] = commands.share()


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # in a worker of xdist
        import commands

        commands.join(config.workerinput["server"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def pytest_collection_finish() -> None:
    """What has been imported is never garbage. Searching it takes half a second, in each forked process too."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def no_config_dirs_of_another_test() -> Iterator[None]:
    from slnlab import config

    before = list(config.extra_config_dirs)
    yield
    config.extra_config_dirs[:] = before


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, see `browsing.headless`."""
    with headless() as driver:
        yield driver


@pytest.fixture
def tiny_run(tmp_path: Path) -> Callable[..., tuple[Result, Path]]:
    """Do a tiny run with these overrides; its result and its directory."""
    from slnlab.config import compose
    from slnlab.train import train

    def run(*overrides: str, directory: Path | None = None) -> tuple[Result, Path]:
        directory = directory or tmp_path / "run"
        config = compose([*TINY, f"runs_dir={tmp_path / 'runs'}", *overrides])
        return train(config, directory, list(overrides)), directory

    return run


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A finished run of the module's `OVERRIDES`, which its tests share."""
    import slnlab
    from slnlab.config import compose
    from slnlab.train import train

    made = tmp_path_factory.mktemp("shared") / "run"
    train(compose([*request.module.OVERRIDES, "trainer.accelerator=cpu", "trainer.progress=false"]), made)
    return slnlab.load(made)


@pytest.fixture
def data_set(tmp_path: Path) -> Callable[[str], list[str]]:
    """Overrides that choose a data set; a user's own has two classes, and folder's images cannot be opened."""

    def choose(name: str) -> list[str]:
        if name in ("npz", "features"):
            samples = {"train_images": np.zeros((20, 8, 8), np.uint8), "train_features": np.zeros((20, 3), np.float32)}
            np.savez(tmp_path / "own.npz", **samples, train_labels=np.arange(20) % 2)
            return [f"data={name}", f"data.source.root={tmp_path / 'own.npz'}"]
        if name not in ("folder", "csv"):
            return [f"data={name}"]
        for number in range(20):
            image = tmp_path / "images" / ("cat", "dog")[number % 2] / f"{number}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.touch()
        if name == "csv":
            rows = [f"images/{('cat', 'dog')[n % 2]}/{n}.jpg,{n % 2}" for n in range(20)]
            (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]))
            return ["data=csv", f"data.source.root={tmp_path / 'list.csv'}"]
        return ["data=folder", f"data.source.root={tmp_path / 'images'}"]

    return choose

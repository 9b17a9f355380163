"""Runs record the versions of the user's own code: a new run and the report say when it has changed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slnlab.config import compose
from slnlab.launchers.planned import Planned, missing
from slnlab.record.result import Result
from slnlab.schema import user_code as module
from slnlab.schema.user_code import user_code
from slnlab.tables.runs import find_runs
from slnlab.train import train
from slnlab.training.needed import NeededRun, make
from slnlab.training.settling import settle

TinyRun = Callable[..., tuple[Result, Path]]

LOSS = """
from torch import log_softmax
from .scale import factor

def scaled(logits):
    return -factor * log_softmax(logits, 1)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of a user's: a loss, and a factor that it imports."""
    folder = tmp_path / "own" / "own_losses"
    folder.mkdir(parents=True)
    for name, code in {"__init__": "", "scaled": LOSS, "scale": "factor = 1", "other": "unrelated = 1"}.items():
        (folder / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.delitem(__import__("sys").modules, "own_losses", raising=False)
    return folder


def change(file: Path, code: str) -> None:
    """Change a file as another process would find it."""
    file.write_text(code)
    module._read.cache_clear()


def test_the_code_behind_a_target_is_found_with_all_that_it_imports(package: Path) -> None:
    found = user_code({"loss": {"_target_": "own_losses.scaled.scaled"}, "optimizer": {"_target_": "torch.optim.SGD"}})
    assert list(found) == ["own_losses", "own_losses.scale", "own_losses.scaled"]
    change(package / "other.py", "unrelated = 2")
    assert user_code({"loss": {"_target_": "own_losses.scaled.scaled"}}) == found
    change(package / "scale.py", "factor = 2")
    now = user_code({"loss": {"_target_": "own_losses.scaled.scaled"}})
    assert [name for name in found if now[name] != found[name]] == ["own_losses.scale"]


@pytest.mark.parametrize("target", ["slnlab.losses.GCE", "torch.nn.Linear", "json.loads", "no_such_module.Loss"])
def test_no_other_code_is_the_users(target: str) -> None:
    assert user_code({"data": {"augment": [{"_target_": target}]}}) == {}


def test_members_of_classes_and_libraries_at_odd_places(package: Path) -> None:
    """A library stays one on PYTHONPATH; reading all of PyTorch would take minutes."""
    (package.parent / "torch").mkdir()
    (package.parent / "torch" / "__init__.py").write_text("")
    (package / "scaled.py").write_text("import torch\nclass Outer:\n    @staticmethod\n    def loss(logits): ...\n")
    assert list(user_code({"loss": {"_target_": "own_losses.scaled.Outer.loss"}})) == [
        "own_losses",
        "own_losses.scaled",
    ]


def test_code_in_a_list_counts(package: Path) -> None:
    assert "own_losses.scale" in user_code({"data": {"augment": [{"_target_": "own_losses.scale.factor"}]}})


def test_code_that_does_not_parse_is_left_to_its_import(package: Path) -> None:
    (package / "scale.py").write_text("factor = ")
    assert "own_losses.scale" in user_code({"loss": {"_target_": "own_losses.scaled.scaled"}})


LOSS_OVERRIDES = ("method=ce", "loss._target_=own_losses.scaled.scaled")


def test_a_finished_run_says_that_its_code_has_changed(
    package: Path, tiny_run: TinyRun, caplog: pytest.LogCaptureFixture
) -> None:
    result, path = tiny_run(*LOSS_OVERRIDES)
    assert list(result.environment["user_code"]) == ["own_losses", "own_losses.scale", "own_losses.scaled"]
    with caplog.at_level(logging.INFO):
        tiny_run(*LOSS_OVERRIDES)
        change(package / "scale.py", "factor = 2")
        tiny_run(*LOSS_OVERRIDES)
    lines = [record.getMessage() for record in caplog.records if "already finished" in record.getMessage()]
    assert ["another version of own_losses.scale:" in line for line in lines] == [False, True]
    assert Result.load(path / "result.json") == result


def test_a_resumed_run_keeps_both_versions(
    package: Path, tiny_run: TinyRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, path = tiny_run(*LOSS_OVERRIDES)
    before = json.loads((path / "environment.json").read_text())["user_code"]["own_losses.scale"]
    (path / "result.json").unlink()
    change(package / "scale.py", "factor = 2")
    result, _ = tiny_run(*LOSS_OVERRIDES)
    assert "own_losses.scale changed since this run began" in caplog.text
    assert result.environment["user_code"]["own_losses.scale"].startswith(f"{before} ")
    assert find_runs([path]).remarks() == [
        "not of one version: digits, sym 0.4, ce: 'own_losses.scale' changed between or in these runs"
    ]
    anew, _ = tiny_run(*LOSS_OVERRIDES, "force=true")
    assert " " not in anew.environment["user_code"]["own_losses.scale"]
    assert find_runs([path]).remarks() == []


def test_a_sweep_and_a_run_that_needs_another_say_so_too(
    package: Path, tiny_run: TinyRun, caplog: pytest.LogCaptureFixture
) -> None:
    _, path = tiny_run(*LOSS_OVERRIDES)
    spec = settle(compose(["data.train_size=100", "trainer.max_epochs=2", "trainer.accelerator=cpu", *LOSS_OVERRIDES]))
    plan = [Planned(spec, path, (), "a run")]
    assert missing(plan) == []
    assert "another version" not in caplog.text
    change(package / "scale.py", "factor = 2")
    assert missing(plan) == []
    assert "1 of them with another version of own_losses.scale; force=true trains them anew" in caplog.text
    caplog.clear()
    make(
        NeededRun(SimpleNamespace(directory=path, container=spec.container), path / "result.json", "", ""), train, spec
    )  # type: ignore[arg-type]
    assert "is of another version of own_losses.scale" in caplog.text


@pytest.mark.parametrize(("other", "remarks"), [("aa", 0), ("bb", 1)])
def test_the_report_says_that_an_average_mixes_versions(
    tiny_run: TinyRun, tmp_path: Path, other: str, remarks: int
) -> None:
    for seed, digest in enumerate(["aa", other]):
        _, path = tiny_run("method=ce", f"seed={seed}", "noise.seed=0", directory=tmp_path / "runs" / f"seed{seed}")
        content: dict[str, Any] = json.loads((path / "result.json").read_text())
        content["environment"]["user_code"] = {"own_losses": digest}
        (path / "result.json").write_text(json.dumps(content))
    assert len(find_runs([tmp_path / "runs"]).remarks()) == remarks

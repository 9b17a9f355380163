"""The guide in CONTRIBUTING.md: its files, written as they stand, work in a folder of one's own."""

from __future__ import annotations

import os
import re
from pathlib import Path

import commands
import pytest

from slnlab.noise import NoiseRecord
from slnlab.record.result import Result, read_metrics

GUIDE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the files of the guide, after its command."""
    made = tmp_path_factory.mktemp("guide")
    files = re.findall(r"```(?:python|yaml)\n# (\S+\.(?:py|yaml))\n(.*?)```", GUIDE, re.DOTALL)
    assert [name for name, _ in files] == [
        "mine.py",
        "conf/loss/focal.yaml",
        "conf/noise/to_the_next.yaml",
        "conf/method/trimmed.yaml",
    ]
    for name, text in files:
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    (command,) = re.findall(r"^PYTHONPATH=\. python -m slnlab\.train (.*trimmed.*)$", GUIDE, re.MULTILINE)
    small = ["data.train_size=300", "trainer.max_epochs=2", "trainer.accelerator=cpu", "trainer.progress=false"]
    arguments = [*command.split(), *small, "hydra.run.dir=run"]
    path = os.pathsep.join([str(made), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = commands.run("slnlab.train", *arguments, cwd=made, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    return made / "run"


def test_its_command_trains(folder: Path) -> None:
    result = Result.load(folder / "result.json")
    assert (result.method, result.noise) == ("trimmed", "to_the_next")
    assert result.identity["loss"] == {"_target_": "mine.focal", "name": "focal", "gamma": 2.0}
    assert result.identity["sln"] == {"sigma": 0.5}
    assert result.evaluators["network"].label == "Trimmed"


def test_the_method_selects(folder: Path) -> None:
    """int(.7·64) = 44 of 64, four times, and int(.7·44) = 30 of the last 44."""
    for row in read_metrics(folder / "metrics.csv"):
        assert row["train/selected"] == pytest.approx((4 * 44 + 30) / 300)
        assert 0 < row["train/selected_correct"] < 1


def test_the_noise_goes_to_the_next_class(folder: Path) -> None:
    record = NoiseRecord.load(folder / "noise.npz")
    assert 0.3 < record.realised_rate < 0.5
    assert ((record.given - record.true) % 10).unique().tolist() == [0, 1]

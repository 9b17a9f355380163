"""docs/cluster.md: every command runs on a SLURM cluster of one node."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from itertools import product
from pathlib import Path

import commands
import numpy as np
import pytest
import slurm_cluster

from slnlab.config import check, compose

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cluster.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, block in BLOCKS if kind == "sh" for line in block.replace("\\\n", "").splitlines()]
SMALL = ["data.train_size=100", "trainer.max_epochs=1", "trainer.accelerator=cpu"]


def test_the_page_has_commands_for_every_launcher() -> None:
    assert len(COMMANDS) >= 10
    assert all(command.startswith("python -m slnlab.") for command in COMMANDS)
    assert any("launcher=local" in command for command in COMMANDS)
    assert any("launcher=slurm" in command for command in COMMANDS)


def write_features(path: Path) -> None:
    """100 training vectors of four classes, and 40 of test."""
    vectors = np.random.default_rng(0).normal(size=(140, 8)).astype(np.float32)
    labels = np.arange(140) % 4
    arrays = {"train_features": vectors[:100], "train_labels": labels[:100]}
    np.savez(path, **arrays, test_features=vectors[100:], test_labels=labels[100:])


def test_every_run_of_the_batched_launcher_can_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_features(Path("features.npz"))
    (command,) = (command for command in COMMANDS if "launcher=batched" in command)
    _, typed = command.split("launcher=batched ")
    values = [[f"{key}={value}" for value in listed.split(",")] for key, listed in re.findall(r"(\S+)=(\S+)", typed)]
    runs = [list(overrides) for overrides in product(*values)]
    assert len(runs) == 16
    for overrides in runs:
        check(compose(overrides))


@pytest.mark.cluster
@pytest.mark.skipif(slurm_cluster.why_not() is not None, reason=str(slurm_cluster.why_not()))
def test_every_command_of_the_cluster_page_works(tmp_path: Path) -> None:
    profile = tmp_path / "my_conf" / "cluster" / "mine.yaml"
    profile.parent.mkdir(parents=True)
    (text,) = (block for kind, block in BLOCKS if kind == "yaml")
    profile.write_text(text)
    write_features(tmp_path / "features.npz")
    folder = tmp_path / "slurm"
    folder.mkdir()
    with slurm_cluster.cluster(folder) as environment:
        for command in COMMANDS:
            words = [sys.executable, *shlex.split(command)[1:]]
            if words[2] in ("slnlab.train", "slnlab.tune"):
                words += SMALL
            if "launcher=slurm" in words and words[2] == "slnlab.train":
                words.append("hydra.launcher.poll_s=1")
            done = subprocess.run(
                words,
                env={**environment, "OMP_NUM_THREADS": "1"},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            if "wait=false" in command:
                # The next command watches them; here they only have to begin.
                commands.until(lambda: list(tmp_path.rglob("seed2/config.yaml")), "the third run begins")
    assert (
        len(list((tmp_path / "runs" / "here").rglob("result.json"))) == 6
    )  # four through launcher=local, two through Ray
    assert {int(path.parent.name.removeprefix("seed")) for path in (tmp_path / "runs/slurm").rglob("result.json")} == {
        0, 1, 2, 3, 4, 5,
    }  # fmt: skip
    assert len(list((tmp_path / "runs" / "together").rglob("result.json"))) == 16
    assert (tmp_path / "report" / "table.md").exists()

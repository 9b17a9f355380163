"""docs/cluster.md: every command runs on a SLURM cluster of one node."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import commands
import pytest
import slurm_cluster

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cluster.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]
SMALL = ["data.train_size=100", "trainer.max_epochs=1", "trainer.accelerator=cpu"]


def test_the_page_has_commands_for_every_launcher() -> None:
    assert len(COMMANDS) >= 10
    assert all(command.startswith("python -m slnlab.") for command in COMMANDS)
    assert any("launcher=local" in command for command in COMMANDS)
    assert any("launcher=slurm" in command for command in COMMANDS)


@pytest.mark.cluster
@pytest.mark.skipif(slurm_cluster.why_not() is not None, reason=str(slurm_cluster.why_not()))
def test_every_command_of_the_cluster_page_works(tmp_path: Path) -> None:
    profile = tmp_path / "my_conf" / "cluster" / "mine.yaml"
    profile.parent.mkdir(parents=True)
    (text,) = (block for kind, block in BLOCKS if kind == "yaml")
    profile.write_text(text)
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
    assert (tmp_path / "report" / "table.md").exists()

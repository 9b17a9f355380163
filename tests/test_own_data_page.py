"""docs/own-data.md: the commands on wrong labels run, on images written to files."""

from __future__ import annotations

import csv
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import slnlab
from slnlab.data.digits import Digits
from slnlab.train import train

PAGE = Path(__file__).resolve().parents[1] / "docs" / "own-data.md"
SECTION = PAGE.read_text("utf-8").split("## Which labels are wrong")[1].split("\n## One file")[0]
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
SMALL = [
    "model=cnn",
    "data.image_size=8",
    "data.padding=1",
    "data.workers=0",
    "data.batch_size=20",
    "optimizer.lr=0.02",
]
QUIET = ["trainer.max_epochs=2", "trainer.accelerator=cpu", "trainer.progress=false"]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixty images of two classes; every fifth lies in the folder of the other class."""
    digits = Digits().load("train")
    chosen = [row for row, label in enumerate(digits.labels.tolist()) if label < 2][:60]
    for number, row in enumerate(chosen):
        label = int(digits.labels[row])
        folder = tmp_path / "photos" / str(1 - label if number % 5 == 4 else label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[row][0].numpy()).save(folder / f"{len(list(folder.iterdir()))}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def test_the_commands_on_wrong_labels_run(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch
    import torchvision

    known: dict[str, Any] = {}
    torch.save(torchvision.models.resnet18().state_dict(), "resnet18-f37072fd.pth")
    Path("decisions.csv").write_text("path,decision,label\n0/0.png,keep,0\n1/1.png,drop,\n")  # as the page exports it
    for kind, block in BLOCKS:
        if kind == "python":
            exec(block, known)
            continue
        for command in block.splitlines():
            python, _, module, *words = shlex.split(command)
            assert python == "python"
            if module == "slnlab.train" and words[0] == "-m":
                *overrides, methods = words[1:]
                for method in methods.removeprefix("method=").split(","):
                    train(slnlab.config.compose([*overrides, f"method={method}", *QUIET]))
            elif module == "slnlab.train":
                *overrides, directory = words
                small = [] if "data=features" in overrides else SMALL
                train(slnlab.config.compose([*overrides, *small, *QUIET]), Path(directory.split("=")[1]))
            else:
                importlib.import_module(module).main(words)
    assert "of your labels are wrong" in capsys.readouterr().out
    with Path("runs/mine/diagnosis/issues.csv").open(encoding="utf-8", newline="") as file:
        header, *issues = csv.reader(file)
    tables = [line.split("|")[1] for line in SECTION.splitlines() if line.startswith("| `")]
    named = re.findall(r"`(\w+)`", "".join(tables))
    assert set(header) <= set(named), "the page describes every column"
    assert len(issues) == 60
    before, after = (slnlab.load(f"runs/{name}").samples["given"] for name in ("mine", "corrected"))
    assert (before != after).sum() == 10, "--top 10"

"""docs/own-data.md: every command runs, on images of Fashion-MNIST in files; on digits where it is not installed."""

from __future__ import annotations

import csv
import importlib
import os
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import slnlab
from slnlab.data.digits import Digits
from slnlab.data.fashion_mnist import FashionMNIST
from slnlab.data.source import LabelledImages
from slnlab.errors import DataError
from slnlab.train import train

PAGE = Path(__file__).resolve().parents[1] / "docs" / "own-data.md"
SECTION = PAGE.read_text("utf-8").split("## Which labels are wrong")[1].split("\n## Feature vectors")[0]
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
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
def photos(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixty images of two classes; every fifth lies in the folder of the other class.

    The same images are in `labels.csv` and `bloodmnist.npz`, and vectors of them in `embeddings.npz`.
    """
    images, labels = real_images(tmp_path_factory.mktemp("data"))
    chosen = [row for row, label in enumerate(labels.tolist()) if label < 2][:60]
    given, lines = [], ["path,label"]
    for number, row in enumerate(chosen):
        label = int(labels[row])
        given.append(1 - label if number % 5 == 4 else label)
        folder = tmp_path / "photos" / str(given[-1])
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{len(list(folder.iterdir()))}.png"
        Image.fromarray(images[row][0].numpy()).save(path)
        lines.append(f"{path.relative_to(tmp_path)},{given[-1]}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    pixels = images[chosen][:, 0].numpy()
    np.savez(tmp_path / "bloodmnist.npz", train_images=pixels, train_labels=given)
    np.savez(tmp_path / "embeddings.npz", train_features=pixels.reshape(60, -1), train_labels=given)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def real_images(place: Path) -> LabelledImages:
    try:
        installed = FashionMNIST(os.environ.get("SLNLAB_DATA", str(place)), download=False)
        installed.prepare()
        return installed.load("train")
    except DataError:
        return Digits().load("train")


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
                places = [Path(word.split("=")[1]) for word in words if word.startswith("hydra.run.dir=")]
                overrides = [word for word in words if not word.startswith("hydra.run.dir=")]
                small = SMALL if {"data=folder", "data=csv"} & {*words} else []
                train(slnlab.config.compose([*overrides, *small, *QUIET]), *places)
            else:
                importlib.import_module(module).main(words)
    assert "of your labels are wrong" in capsys.readouterr().out
    with Path("runs/diagnosed/diagnosis/issues.csv").open(encoding="utf-8", newline="") as file:
        header, *issues = csv.reader(file)
    tables = [line.split("|")[1] for line in SECTION.splitlines() if line.startswith("| `")]
    named = re.findall(r"`(\w+)`", "".join(tables))
    assert set(header) <= set(named), "the page describes every column"
    assert len(issues) == 60
    before, after = (slnlab.load(f"runs/{name}").samples["given"] for name in ("diagnosed", "corrected"))
    assert len(before) - len(after) == 10, "--top 10"

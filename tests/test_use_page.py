"""docs/use.md: every command and Python example runs."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import slnlab
from slnlab.data.digits import Digits
from slnlab.train import train

PAGE = Path(__file__).resolve().parents[1] / "docs" / "use.md"
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
SMALL = ["trainer.max_epochs=2", "correction.last_epochs=1", "trainer.accelerator=cpu", "trainer.progress=false"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the photos of the page."""
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(Digits().load("test").images[:3]):
        Image.fromarray(image[0].numpy()).save(tmp_path / "photos" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_and_python_example_runs(here: Path) -> None:
    known: dict[str, Any] = {}
    for kind, block in BLOCKS:
        if kind == "python":
            exec(block, known)  # the pieces build on one another
            continue
        for command in block.splitlines():
            python, _, module, *words = shlex.split(command)
            assert python == "python"
            if module == "slnlab.train":
                *overrides, directory = words
                train(slnlab.config.compose([*overrides, *SMALL]), here / directory.removeprefix("hydra.run.dir="))
            elif "onnx" in words and importlib.util.find_spec("onnxruntime") is None:
                continue
            else:
                importlib.import_module(module).main(words)
    lines = (here / "predictions.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["path", *(f"photos/{number}.png" for number in range(3))]
    assert known["labels"] == [line.split(",")[1] for line in lines[1:3]]
    assert set(known["names"]) <= set(known["run"].classes)
    state = known["run"].model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in known["network"].state_dict().items())
    for name in re.findall(r"`run\.(\w+)`", PAGE.read_text("utf-8")):
        assert getattr(known["run"], name) is not None


def test_the_page_has_shell_and_python_examples() -> None:
    commands = "".join(block for kind, block in BLOCKS if kind == "sh")
    assert {"slnlab.predict", "slnlab.export"} <= set(re.findall(r"slnlab\.\w+", commands))
    assert sum(kind == "python" for kind, _ in BLOCKS) >= 3

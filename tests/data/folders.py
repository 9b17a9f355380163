"""Folders of made-up images, and small runs on them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

SMALL = ("model=cnn", "data.image_size=8", "data.padding=1", "data.workers=0", "trainer.accelerator=cpu")
SMALL += ("trainer.progress=false", "optimizer.lr=0.02")


def put(root: Path, *names: str) -> Path:
    """Images of one pixel each."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1, 1), (number % 256, 0, 0)).save(root / name)
    return root


def composed(folder: Path, *overrides: str) -> list[str]:
    return ["data=folder", f"data.source.root={folder}", "method=sln", *overrides]

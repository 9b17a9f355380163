"""A folder of images with two classes, and a run that trained on it with earlier corrections."""

from __future__ import annotations

from pathlib import Path

from folders import SMALL
from PIL import Image

from slnlab.config import compose
from slnlab.data.digits import Digits
from slnlab.train import train

EARLIER = {"one/3.png": "zero", "one/4.png": "", "zero/5.png": "", "zero/6.png": "zero"}
"""What `data.labels` of the run changed before: one label, and two images that it leaves out. The last one weighs ½."""


def photos(top: Path, each: int = 20) -> Path:
    """As many images of the classes `zero` and `one`."""
    digits = Digits().load("train")
    for label, name in enumerate(("zero", "one")):
        (top / name).mkdir(parents=True)
        for number, image in enumerate(digits.images[digits.labels == label][:each]):
            Image.fromarray(image[0].numpy()).save(top / name / f"{number}.png")
    return top


def written(path: Path, labels: dict[str, str]) -> Path:
    """A file for `data.labels`."""
    lines = [f"{name},{label},{0.5 if name == 'zero/6.png' else ''}\n" for name, label in labels.items()]
    path.write_text("".join(["path,label,weight\n", *lines]))
    return path


def trained(folder: Path, place: Path) -> Path:
    """The directory of a run on the folder; `place/earlier.csv` has its earlier corrections."""
    labels = written(place / "earlier.csv", EARLIER)
    choices = ["data=folder", f"data.source.root={folder}", f"data.labels={labels}", "method=ce", *SMALL]
    train(compose([*choices, "trainer.max_epochs=2", "data.batch_size=10"]), place / "run")
    return place / "run"

"""Turn images into feature vectors: `python -m slnlab.embed photos --model torchvision:resnet50 -o features.npz`."""

from __future__ import annotations

import argparse
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slnlab.errors import ConfigError, DataError
from slnlab.text.numbers import count
from slnlab.text.quoting import override
from slnlab.text.terminal import ProgressLine, command

if TYPE_CHECKING:
    from torch import Tensor

    from slnlab.image_folder.contents import ImageFolderContents

KEYS = ("unreadable", "labels", "pixel_range", "background", "mixed_depths", "workers")
"""Keys of `data` that say how images are read."""

VERSION = 2
"""Goes up when the same images, network and weights get other features, so that an older file is not taken as done."""


class Progress(ProgressLine):
    """Images done, their speed, and the time left."""

    first: int | None = None

    def __call__(self, done: int, total: int) -> None:
        if self.first is None:  # those of an earlier call
            self.first = done
        elapsed = time.monotonic() - self.began
        speed = (done - self.first) / elapsed if elapsed else 0.0
        left = f", {(total - done) / speed / 60:.0f} min left" if speed else ""
        self.show(f"{done:,} of {total:,} images, {speed:,.0f} a second{left}")


def _arguments(arguments: Sequence[str] | None, program: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        program,
        description="Write the features of images by a pretrained network to a file for data=features. The images are "
        "read and checked as by data=folder or data=csv. A stopped embedding goes on with the same command.",
        epilog=f"KEY=VALUE: data.{', data.'.join(KEYS)}, as of slnlab train.",
    )
    parser.add_argument("images", metavar="IMAGES", help="folder with a folder for each class, or a .csv list")
    parser.add_argument(
        "keys", nargs="*", metavar="KEY=VALUE", help="how images are read, such as data.unreadable=skip"
    )
    parser.add_argument("--model", required=True, metavar="LIBRARY:NAME", help="torchvision:NAME or timm:NAME")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="its weights; default: torchvision's, cached or downloaded"
    )
    parser.add_argument("-o", "--out", type=Path, metavar="FILE.npz", required=True)
    parser.add_argument("--batch-size", type=count, default=64, metavar="N", help="images to a batch; default: 64")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ...; default: a GPU where there is one")
    return parser.parse_intermixed_args(arguments)


def _check(asked: argparse.Namespace) -> None:
    """Refuse what cannot be written or read, before the images are looked at."""
    if asked.out.suffix != ".npz":
        raise ConfigError(f"--out: {asked.out} must end with .npz")
    if not asked.out.absolute().parent.is_dir():
        raise DataError(f"{asked.out}: cannot be written: there is no folder {asked.out.parent}")
    for key in asked.keys:
        if key.partition("=")[0].removeprefix("data.") not in KEYS or not key.startswith("data."):
            raise ConfigError(f"{key}: is no key of embed, which takes data.{', data.'.join(KEYS)}")


def _images(asked: argparse.Namespace) -> tuple[ImageFolderContents, dict[str, Any], str]:
    """Read and report the list of images: (contents, the configuration's `data`, digest of the files or "")."""
    from slnlab.config import compose
    from slnlab.config.container import container_of
    from slnlab.config.contents import source_contents
    from slnlab.image_folder.listing import read_image_folder
    from slnlab.image_folder.report import report

    kind = "csv" if asked.images.endswith(".csv") else "folder"
    place = os.path.join(os.curdir, asked.images)  # `[photos]` alone would be a list, and `1e3` a number
    root = shlex.split(override("data.source.root", place) or "")
    words = [f"data={kind}", *root, "noise=real", *asked.keys]
    data = container_of(compose(words))["data"]
    contents = read_image_folder(asked.images, data["unreadable"], data["workers"], data["labels"])
    stamp = source_contents("data.source", data["source"], fresh=True)
    unreadable, duplicates = (asked.out.with_suffix(f".{name}.csv") for name in ("unreadable", "duplicates"))
    report(asked.images, contents, data["workers"], unreadable, duplicates, data["mixed_depths"])
    return contents, data, stamp.digest if stamp else ""


def _embed(asked: argparse.Namespace) -> str:
    """Do the work; return the last line for the user."""
    _check(asked)
    contents, data, digest = _images(asked)

    from slnlab.data.decoding import Paths
    from slnlab.embedding.backbones import backbone
    from slnlab.embedding.features_file import Embedding, embed
    from slnlab.image_folder.decoding import read_rgb
    from slnlab.image_folder.survey import check_visible
    from slnlab.inference.trained_run import usable
    from slnlab.processes.stopping import obeying_signals

    device, network = usable(asked.device), backbone(asked.model, asked.weights)
    check_visible(Paths(contents.top, contents.splits["train"].paths), data["background"])
    reading = {key: data[key] for key in ("pixel_range", "background")}
    about = {"version": VERSION, "images": digest, "model": asked.model, "weights": network.weights, **reading}

    def read(path: Path) -> Tensor:
        return network.transform(read_rgb(path, **reading))

    progress = Progress()
    try:
        with obeying_signals():
            work = Embedding(contents, network, read, about, asked.batch_size, device)
            written = embed(work, asked.out, progress)
    finally:
        progress.close()
    count = sum(len(split.paths) for split in contents.splits.values())
    if not written:
        return f"already finished: {asked.out} has the features of these {count:,} images"
    root = override("data.source.root", str(asked.out)) or "data.source.root=FILE"
    return f"{asked.out}: features of {count:,} images; train with data=features {root}"


@command
def main(arguments: Sequence[str] | None = None, program: str = "python -m slnlab.embed") -> None:
    """Run the command line. A user's error is one message and exit code 1."""
    asked = _arguments(arguments, program)
    print(_embed(asked))


if __name__ == "__main__":
    main()

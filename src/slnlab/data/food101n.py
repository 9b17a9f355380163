"""Food-101N (Lee et al. 2018), dishes found by name in the web, with Food-101's test set (Bossard et al. 2014)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import ClassVar

from slnlab.data.published import Missing, Published, PublishedFiles, list_lines
from slnlab.data.source import Split
from slnlab.errors import DataError
from slnlab.text.messages import quoted

log = logging.getLogger(__name__)

_NOISY, _CLEAN = "Food-101N_release", "food-101"


class Food101N(PublishedFiles):
    """Food-101N: 310,009 noisy training images; the test set is Food-101's, 25,250 clean images of the same classes.

    About 20 % of the labels are wrong. People judged 57,609 of them as right or wrong (`verdicts`); training does not
    use these verdicts, and `slnlab diagnose` scores itself on them. Food-101's own training images are another data
    set and are not read.

    Args:
        root: directory of both unpacked archives, `Food-101N_release/` and `food-101/`.
        classes: names of the 101 classes; their order numbers the labels.
        missing: treatment of listed images that are not there.
    """

    name = "food101n"
    about: ClassVar[Published] = Published(
        "Food-101N",
        {
            f"{_NOISY}/meta/classes.txt": "a header, then 101 names",
            f"{_NOISY}/meta/imagelist.tsv": "a header, then 310,009 lines <class>/<hash>.jpg",
            f"{_NOISY}/meta/verified_train.tsv": "a header, then 52,868 lines with a tab and 0 or 1",
            f"{_NOISY}/meta/verified_val.tsv": "the same, 4,741 lines",
            f"{_NOISY}/images": "<class>/<hash>.jpg",
            f"{_CLEAN}/meta/test.txt": "25,250 lines <class>/<id> of Food-101",
            f"{_CLEAN}/images": "<class>/<id>.jpg of Food-101",
        },
        "Food-101N_release.zip is at https://kuanghuei.github.io/Food-101N, food-101.tar.gz at "
        "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101; the terms stand there, and the rights to the "
        "images belong to their owners.",
    )

    def __init__(self, root: str, classes: Sequence[str], missing: Missing = "refuse") -> None:
        super().__init__(root, missing)
        self.classes = list(classes)

    def listed(self, split: Split) -> list[tuple[str, int]]:
        number_of = self._numbers()
        if split == "train":
            file, folder, suffix = self.root / _NOISY / "meta" / "imagelist.tsv", f"{_NOISY}/images", ""
        else:
            file, folder, suffix = self.root / _CLEAN / "meta" / "test.txt", f"{_CLEAN}/images", ".jpg"
        pairs = []
        for line, (name,) in list_lines(file, columns=None):
            if split == "train" and line == 1:  # a header
                continue
            dish, slash, _ = name.partition("/")
            if dish not in number_of or not slash:
                raise DataError(f"{file}: line {line}: must be <class>/<image> of a class, found {name[:80]!r}")
            pairs.append((f"{folder}/{name}{suffix}", number_of[dish]))
        return pairs

    def verdicts(self) -> dict[str, bool]:
        """Return the human verdicts: training image → True if its label is right.

        A verdict on an image that the list of images does not have is left out. One image of the published lists is
        judged as hot and sour soup, and listed as another dish.

        Raises:
            DataError: a list is missing or corrupt.
        """
        images = {path for path, _ in self.listed("train")}
        found: dict[str, bool] = {}
        unknown: list[str] = []
        for name in ("verified_train.tsv", "verified_val.tsv"):
            file = self.root / _NOISY / "meta" / name
            for line, (key, verdict) in list_lines(file)[1:]:
                if verdict not in ("0", "1"):
                    raise DataError(f"{file}: line {line}: the verdict must be 0 or 1, found {verdict!r}")
                path = f"{_NOISY}/images/{key}"
                if path in images:
                    found[path] = verdict == "1"
                else:
                    unknown.append(key)
        if unknown:
            log.info(
                "%s: %d human verdict(s) on images that are not listed: %s", self.root, len(unknown), quoted(unknown)
            )
        return found

    def _numbers(self) -> dict[str, int]:
        """Class → label, after a look at `classes.txt`, whose first line is a header."""
        file = self.root / _NOISY / "meta" / "classes.txt"
        names = {name for _, (name,) in list_lines(file, columns=None)} - {"class_name"}
        if others := names ^ set(self.classes):
            raise DataError(f"{file}: {quoted(sorted(others))} must be in both this file and data.classes")
        return {name: number for number, name in enumerate(self.classes)}

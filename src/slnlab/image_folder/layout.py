"""The layout of an image folder: names tell splits, classes and images; first bytes tell images with other suffixes.

This module does not import torch and decodes no image.
"""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from slnlab.errors import DataError
from slnlab.text.messages import quoted

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".avif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".tga", ".pcx", ".ico"),
)
"""Suffixes of images, in either case. A file with another suffix is an image if it begins like one of SIGNATURES."""

SIGNATURES = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|....ftypavi[fs]|BM....\0\0\0\0|II\*\0|MM\0\*|P[4-6]\s[\d#]"
    rb"|\0\0\0\x0cjP  ",
    re.DOTALL,
)
"""The first bytes of JPEG, PNG, GIF, WebP, AVIF, BMP, TIFF, PNM and JPEG 2000 files."""

SPLITS = {
    "train": ("train", "training"),
    "val_clean": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""Split → allowed names of its folder, in either case."""

_WORDS = {word for words in SPLITS.values() for word in words}

_LIKE_WORDS = _WORDS | {"holdout", "eval", "evaluation", "fold", "split"}
"""Words that make a folder look like a split, alone or before `set`, `data`, `images`."""

RAW = (".arw", ".cr2", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw")
"""Suffixes of raw camera files. They begin like TIFF, and Pillow would read their thumbnail only."""

_ALL_IN_TRAIN = "If it is a class, put all classes into one folder called train"


def split_folders(top: Path) -> dict[str, Path]:
    """The folder of each existing split. `top` itself is `train` if its folders are the classes.

    A folder with images and without folders is a class, whatever its name: CIFAR-100 has a class called train.

    Raises:
        DataError: folders look like splits and cannot serve as such.
    """
    folders_of_top = visible_folders(top)
    named = {split: [f for f in folders_of_top if alike(f.name) in words] for split, words in SPLITS.items()}
    called = [folder for folders in named.values() for folder in folders]
    flat = [folder for folder in called if holds_images(folder) and not visible_folders(folder)]
    if flat and len(flat) == len(called):
        if len(called) == len(folders_of_top):
            raise DataError(
                f"{top}: {quoted(f.name for f in flat)} are names of splits, and images lie directly in them; "
                "each needs a folder for each class, as in train/<class>/"
            )
        return {"train": top}
    for folder in flat:
        raise DataError(
            f"{folder}: has images, but no folders of classes as {quoted(f.name for f in called if f != folder)} has; "
            f"sort them into {folder.name}/<class>/, or move them out of {top}"
        )
    for folders in named.values():
        if len(folders) > 1:
            raise DataError(f"{top}: {quoted(f.name for f in folders)} are names of one split; keep one of them")
    if not called:
        _refuse_likenesses(top, folders_of_top)
        return {"train": top}
    if not named["train"]:
        raise DataError(f"data.source.root: {top} has {called[0].name}/ but no train/. {_ALL_IN_TRAIN}")
    strangers = [folder for folder in folders_of_top if folder not in called and holds_images(folder, below=True)]
    if strangers:
        raise DataError(
            f"{top}: beside {named['train'][0].name}/ {quoted(f.name for f in strangers)} with images is no split "
            f"({', '.join(words[0] for words in SPLITS.values())}); rename it, or move it out of {top}. {_ALL_IN_TRAIN}"
        )
    return {split: folders[0] for split, folders in named.items() if folders}


def _refuse_likenesses(top: Path, folders: list[Path]) -> None:
    """Refuse folders such as `training_set/` and `test_set/`, which would count as two classes.

    Raises:
        DataError: folders look like splits, or hold folders of splits.
    """
    inside = {f: visible_folders(f) for f in folders}
    inverted = [f for f, below in inside.items() if sum(alike(g.name) in _WORDS for g in below) > 1]
    if len(inverted) > 1:
        splits = (g.name for g in inside[inverted[0]] if alike(g.name) in _WORDS)
        raise DataError(
            f"{top}: {quoted(f.name for f in inverted)} hold folders of splits ({quoted(splits)}); put the splits "
            "above the classes, as in train/<class>/"
        )
    likely = [f for f in folders if _like_a_split(f.name) and inside[f] and not holds_images(f)]
    if len(likely) > 1:
        raise DataError(
            f"{top}: {quoted(f.name for f in likely)} look like splits, with the classes in them; call them "
            f"{', '.join(options[0] for options in SPLITS.values())}"
        )


def _like_a_split(name: str) -> bool:
    """True for `trainset`, `TestSet`, `val_images`, `fold1`."""
    words = re.split(r"[^a-z]+", name.casefold())
    return any(re.sub(r"(set|data|images)$", "", word) in _LIKE_WORDS for word in words)


def class_names(folder: Path) -> dict[str, Path]:
    """Class → folder for each class of a split's folder, in the order of the names.

    Names are in Unicode's composed form (NFC) without blanks at their ends, so they are the same on every system.

    Raises:
        DataError: there are fewer than two classes, two folders with one name, or a name with `${`.
    """
    found: dict[str, Path] = {}
    for path in visible_folders(folder):
        name = class_name(path.name)
        if "${" in name:
            raise DataError(f"{path}: '${{' in the name of a class would be read as a reference; rename the folder")
        if name in found:
            raise DataError(
                f"{folder}: the folders {path.name!r} and {found[name].name!r} have one name but for its encoding or "
                "blanks; put their images together, or rename one"
            )
        found[name] = path
    if len(found) < 2:
        only = next(iter(found.values()), None)
        hint = f"; did you mean data.source.root={only}?" if only and len(visible_folders(only)) > 1 else ""
        raise DataError(
            f"{folder}: needs a folder for each class, at least 2, and has {len(found)}{hint}"
            + _loose_images(folder, found)
        )
    return dict(sorted(found.items()))


def _loose_images(folder: Path, found: Mapping[str, Path]) -> str:
    """The end of a message if all images of a folder lie in no folder of a class."""
    if found or not holds_images(folder):
        return ""
    return "; its images lie in no folder, so they have no labels"


def class_name(name: str) -> str:
    """The class name of a folder's name. Bytes outside UTF-8 become escapes."""
    text = unicodedata.normalize("NFC", name).strip() or name
    return text.encode("utf-8", "backslashreplace").decode()


def alike(name: str) -> str:
    """A key that is equal for names with other case, blanks at their ends, or another encoding of accents."""
    return unicodedata.normalize("NFC", class_name(name).casefold())


def same_but_for_case(classes: Iterable[str]) -> list[list[str]]:
    """Groups of classes that differ by case only, such as `Cat` and `cat`."""
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(alike(name), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def match_classes(folder: Path, train: Path, classes: Iterable[str]) -> tuple[dict[str, Path], list[str]]:
    """Match the folders of another split to the training classes.

    Args:
        folder: folder of the split.
        train: folder of the training images, for messages.
        classes: names of the training classes.

    Returns:
        Class → folder, and a remark for each name that matches without being equal.

    Raises:
        DataError: a folder is no training class, or two folders are one class.
    """
    known = list(classes)
    ambiguous = {name for names in same_but_for_case(known) for name in names}
    nearly = {alike(name): name for name in known if name not in ambiguous}
    found: dict[str, Path] = {}
    remarks: list[str] = []
    strange: list[str] = []
    for path in visible_folders(folder):
        name = class_name(path.name)
        if name not in known:
            match = nearly.get(alike(name))
            if match is None:
                strange.append(path.name)
                continue
            remarks.append(f"{folder.name}/{path.name!r} is taken for the class {match!r}")
            name = match
        if name in found:
            raise DataError(
                f"{folder}: {path.name!r} and {found[name].name!r} are both the class {name!r}; put them together"
            )
        found[name] = path
    if strange:
        near = difflib.get_close_matches(strange[0], known, n=1)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        what = "is no class" if len(strange) == 1 else "are no classes"
        raise DataError(
            f"{folder}: {quoted(strange)} {what} of {train}{meant}, which has {len(known)}: {quoted(known)}"
        )
    return found, remarks


def visible_folders(folder: Path) -> list[Path]:
    """The visible folders in a folder, in the order of their names. Links are followed.

    Raises:
        DataError: the folder cannot be read.
    """
    return [Path(entry.path) for entry in entries(folder) if not entry.name.startswith(".") and entry.is_dir()]


def entries(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """The entries of a folder, in the order of their names.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error


def holds_images(folder: Path, below: bool = False) -> bool:
    """True if an image lies in a folder, or, with `below`, at most two levels below it."""
    if any(not entry.is_dir() and why_no_image(entry) is None for entry in entries(folder)):
        return True
    return below and any(holds_images(f) or any(map(holds_images, visible_folders(f))) for f in visible_folders(folder))


def why_no_image(entry: os.DirEntry[str]) -> str | None:
    """The kind of a file that is no image, such as `.txt` or `hidden`; None for an image."""
    if entry.name.startswith("."):
        return "hidden"
    suffix = os.path.splitext(entry.name)[1].lower()
    if not entry.is_file() and os.path.exists(entry.path):
        return "no regular file"  # reading a pipe would block for ever
    if suffix in SUFFIXES:
        return None
    if suffix in RAW:
        return suffix
    try:
        with open(entry.path, "rb") as file:
            if SIGNATURES.match(file.read(16)):
                return None
    except OSError:
        pass
    return suffix or "without a suffix"


def walk(folder: str | Path, above: tuple[str, ...] = ()) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Pairs (folder, its other entries) for a folder and all visible ones below it. Links are followed.

    Raises:
        DataError: a folder cannot be read, or links back to a folder around it.
    """
    real = os.path.realpath(folder)
    if real in above:
        raise DataError(f"{folder}: is a link back to {real}, which it lies in")
    found = entries(folder)
    yield str(folder), [entry for entry in found if not entry.is_dir() or entry.name.startswith(".")]
    for entry in found:
        if entry.is_dir() and not entry.name.startswith("."):
            yield from walk(entry.path, (*above, real))

"""t-SNE of penultimate features, as in the paper's Fig. 7."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slnlab.errors import ConfigError
from slnlab.figures.style import COLOURS, MARKERS, grid, place_legend, save, style, wrapped
from slnlab.figures.subjects import (
    Subject,
    above_zero,
    add_network_arguments,
    at_least,
    first_seeds,
    panel_titles,
    subjects,
)

COMPONENTS = 50
"""Principal components kept before t-SNE (van der Maaten and Hinton 2008); fewer features stay as they are."""

NAMED = 20
"""Largest number of classes with a colour, a marker and a name; more get a colour scale."""

ENSEMBLE = "ensemble"
"""The row of several networks' mean logits, which has no features of its own."""

NO_CLASS = "#bbbbbb"
"""Colour of images without a true class (open-set noise)."""


class Embedded(NamedTuple):
    """The embedding of M images.

    Args:
        number: positions (M,) in the data set.
        at: coordinates (M, 2), without unit.
        label: classes (M,), −1 for none.
        classes: names of the classes.
        known: False if the classes are given labels, because true ones are unknown.
    """

    number: npt.NDArray[np.int64]
    at: npt.NDArray[np.float64]
    label: npt.NDArray[np.int64]
    classes: list[str]
    known: bool


def figure(
    runs: Sequence[Path],
    out: Path,
    split: Literal["train", "test"] = "train",
    perplexity: float = 30.0,
    weights: str | None = None,
    device: str = "cpu",
    samples: int = 2000,
    seed: int = 0,
    where: Sequence[str] = (),
) -> list[str]:
    """Draw a panel for the first seed of each configuration: images by t-SNE of their features, coloured by true class.

    The features are the input of the last linear layer, without augmentation; of several networks, the first one's.
    They are reduced to `COMPONENTS` principal components, then embedded by scikit-learn's t-SNE, started from the first
    two components.

    Args:
        runs: searched for finished runs.
        out: folder for `tsne.png`, `tsne.svg` and `tsne.csv`, which has a line per image.
        split: "train", as in the paper, or "test".
        perplexity: of t-SNE, > 0 and below the number of images.
        weights, device, samples, seed: see `add_arguments`.
        where: conditions on the runs, see `slnlab.tables.selection`.

    Returns:
        Remarks on runs that are not drawn.

    Raises:
        ConfigError: an option is out of range, a condition cannot be read, or no network has penultimate features.
        DataError: there are no finished runs, a run's data are missing, or a file cannot be written.
    """
    at_least(4, samples=samples)
    above_zero(perplexity=perplexity)
    groups, remarks = subjects(runs, weights, where)
    first, more = first_seeds(groups)
    drawn: list[tuple[Subject, Embedded]] = []
    for each in first:
        if weights is None and each.weights == ENSEMBLE:
            each = replace(each, weights=next(iter(each.group.rows)))
        try:
            drawn.append((each, _embed(each, split, perplexity, device, samples, seed)))
        except ConfigError as error:
            remarks.append(f"not drawn: {each.title}: {error}")
    if not drawn:
        raise ConfigError("\n  ".join(["no run can be drawn", *remarks]))
    with style():
        picture = _picture(panel_titles([each for each, _ in drawn]), [found for _, found in drawn])
        save(picture, out, "tsne", [line for each, found in drawn for line in _numbers(each, found)])
    given = [
        f"{each.title}: coloured by given labels, as the true ones are unknown"
        for each, found in drawn
        if not found.known
    ]
    return [*remarks, *more, *given]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `figure`."""
    add_network_arguments(parser, samples=2000, of="images")
    parser.add_argument("--split", choices=("train", "test"), default="train", help="the images; default: train")
    parser.add_argument(
        "--perplexity", type=float, default=30.0, help="t-SNE's effective number of neighbours; default: 30"
    )


def _embed(subject: Subject, split: Any, perplexity: float, device: str, samples: int, seed: int) -> Embedded:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    from slnlab.inference.features import features_of
    from slnlab.inference.images import run_images

    run = subject.load(device)
    images = run_images(run, split, samples, seed)
    if perplexity >= len(images.number):
        raise ConfigError(f"perplexity: must be below the number of images, {len(images.number)}, not {perplexity:g}")
    found = features_of(run.model, images.image, run.batch_size).numpy()
    if min(found.shape) > COMPONENTS:
        found = PCA(COMPONENTS, random_state=seed).fit_transform(found)
    at = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(found)
    label = images.given if images.true is None else images.true
    known = images.true is not None
    return Embedded(images.number.cpu().numpy(), at.astype(np.float64), label.cpu().numpy(), run.classes, known)


def _numbers(subject: Subject, found: Embedded) -> list[dict[str, object]]:
    return [
        {
            **subject.columns,
            "image": int(number),
            "class": found.classes[label] if label >= 0 else None,
            "x": float(x),
            "y": float(y),
        }
        for number, label, (x, y) in zip(found.number, found.label, found.at, strict=True)
    ]


def _picture(titles: Sequence[str], embedded: Sequence[Embedded]) -> Figure:
    picture, panels = grid(len(titles), "t-SNE 2", height=2.6 if len(titles) > 2 else 4.2)
    legend: dict[str, Any] = {}
    for panel, title, found in zip(panels, titles, embedded, strict=True):
        without = found.label < 0
        if without.any():
            grey = panel.scatter(found.at[without, 0], found.at[without, 1], s=4, color=NO_CLASS, linewidths=0)
            legend["no true class"] = grey
        if len(found.classes) <= NAMED:
            legend = {**_named(panel, found), **legend}
        else:
            _coloured(picture, panel, found)
        panel.set_title(wrapped(panel, title))
        panel.set(xticks=[], yticks=[], xlabel="t-SNE 1")
        panel.grid(False)
    place_legend(picture, legend)
    return picture


def _named(panel: Axes, found: Embedded) -> dict[str, Any]:
    """Draw a colour and a marker for each class."""
    legend = {}
    for number, name in enumerate(found.classes):
        points = found.at[found.label == number]
        look: Any = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number // len(COLOURS) % len(MARKERS)]}
        drawn = panel.scatter(points[:, 0], points[:, 1], s=9, alpha=0.75, linewidths=0, **look)
        legend[name] = drawn
    return legend


def _coloured(picture: Figure, panel: Axes, found: Embedded) -> None:
    """Draw a colour scale over the numbers of many classes."""
    has = found.label >= 0
    drawn = panel.scatter(
        found.at[has, 0],
        found.at[has, 1],
        c=found.label[has],
        cmap="viridis",
        vmin=0,
        vmax=len(found.classes) - 1,
        s=5,
        linewidths=0,
    )
    spot = panel.get_subplotspec()
    if spot is not None and spot.is_last_col():
        picture.colorbar(drawn, ax=panel, label="number of the class")

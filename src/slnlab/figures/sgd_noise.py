"""Noise on the gradient of parameters or of logits against stochastic label noise, as in the paper's Fig. 5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from slnlab.config.container import flat
from slnlab.errors import DataError
from slnlab.figures.accuracy import Curve, curve, numbers, picture
from slnlab.figures.panels import found_groups, panels
from slnlab.figures.style import save, style
from slnlab.tables.runs import Group

VARIANTS = ("sgd_noise_parameters", "sgd_noise_outputs")
"""Methods of Eq. 1 and Eq. 2."""

SIGMA = {
    "ce": None,
    "sgd_noise_parameters": "method.gradient_sigma",
    "sgd_noise_outputs": "method.output_sigma",
    "sln": "sln.sigma",
}
"""Drawn method → the key of its σ."""


def figure(runs: Sequence[Path], out: Path, where: Sequence[str] = ()) -> list[str]:
    """Draw test accuracy by epoch of cross entropy, noise on parameters, noise on logits, and SLN.

    All curves are the network's, without a momentum model. Each data set and noise has a panel, with means over runs
    and bands of one sample standard deviation. Several σ of a method are several curves.

    Args:
        runs: searched for finished runs. Other methods are not drawn.
        out: folder for `sgd_noise.png`, `sgd_noise.svg` and `sgd_noise.csv`, which has a line per curve and epoch.
        where: conditions on the runs, see `slnlab.tables.selection`.

    Returns:
        Remarks on runs that are not drawn.

    Raises:
        ConfigError: a condition cannot be read.
        DataError: there are no finished runs with noise on the gradient and test accuracies, or a file cannot be
            written.
    """
    groups, remarks = found_groups(runs, where)
    drawn: list[list[Curve]] = []
    for same in panels([group for group in groups if group.first.method in SIGMA]):
        if not any(group.first.method in VARIANTS for group in same):
            remarks.append(f"not drawn: {same[0].first.data}, {same[0].noise} has no run of {' or '.join(VARIANTS)}")
            continue
        curves = []
        for group in same:
            try:
                curves.append(curve(group, "network", _label(group), group.first.method))
            except DataError as error:
                remarks.append(f"not drawn: {error}")
        if curves:
            drawn.append(curves)
    if not drawn:
        needed = f"no finished runs of method={','.join(VARIANTS)} with test accuracies in {', '.join(map(str, runs))}"
        raise DataError("\n  ".join([needed, *remarks]))
    with style():
        save(picture(drawn)[0], out, "sgd_noise", list(numbers(drawn)))
    return remarks


def _label(group: Group) -> str:
    """The title of the network with its σ, and with the other settings that tell it from rivals."""
    key, title = SIGMA[group.first.method], group.rows["network"].title
    if key is None:
        return f"{title} {group.setting}".strip()
    others = replace(group, settings={name: value for name, value in group.settings.items() if name != key})
    return f"{title}, σ = {flat(group.first.identity)[key]:g} {others.setting}".strip()

"""slnlab: the laboratory for learning with noisy labels.

The names below are imported at their first use (PEP 562), so that ``import slnlab`` is fast. The command line checks a
configuration before it imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slnlab.callbacks.correction import LabelCorrection, correct_labels
    from slnlab.callbacks.momentum import MomentumAverage, MomentumModel
    from slnlab.inference.trained_run import load
    from slnlab.samples import SampleTable
    from slnlab.sln import StochasticLabelNoise

    __version__: str

__all__ = [
    "LabelCorrection",
    "MomentumAverage",
    "MomentumModel",
    "SampleTable",
    "StochasticLabelNoise",
    "__version__",
    "correct_labels",
    "load",
]

_HOMES = {
    "LabelCorrection": "slnlab.callbacks.correction",
    "MomentumAverage": "slnlab.callbacks.momentum",
    "MomentumModel": "slnlab.callbacks.momentum",
    "correct_labels": "slnlab.callbacks.correction",
    "load": "slnlab.inference.trained_run",
    "SampleTable": "slnlab.samples",
    "StochasticLabelNoise": "slnlab.sln",
}


def __getattr__(name: str) -> object:
    value: object
    if name == "__version__":
        from importlib.metadata import version

        value = version("slnlab")
    elif name in _HOMES:
        from importlib import import_module

        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Losses of single samples (B,) that are more than a target weighing a class-wise loss, for any training loop.

Those that remember something of each sample are classes on a :class:`slnlab.SampleTable`, and keep it in columns of
their own there. You move and save the table. The methods of the same names train with these very pieces.
"""

from slnlab.objectives._bootstrapping import bootstrapping
from slnlab.objectives._confidence_penalty import confidence_penalty
from slnlab.objectives._softmax import softmax
from slnlab.objectives._symmetric_divergence import symmetric_divergence
from slnlab.objectives.cores2 import CORES2
from slnlab.objectives.elr import ELR, early_learning
from slnlab.objectives.mixmatch import co_guess, co_refine, prior_penalty, sharpen
from slnlab.objectives.sop import SOP, SampleNoise

__all__ = [
    "CORES2",
    "ELR",
    "SOP",
    "SampleNoise",
    "bootstrapping",
    "co_guess",
    "co_refine",
    "confidence_penalty",
    "early_learning",
    "prior_penalty",
    "sharpen",
    "softmax",
    "symmetric_divergence",
]

"""Losses of single samples (B,) that no target and class-wise loss can express, for any training loop.

An objective with a memory of each sample is a class. It keeps its memory in columns of a :class:`slnlab.SampleTable`;
you move and save the table. The methods of the same names train with these objectives.
"""

from slnlab.objectives._bootstrapping import bootstrapping
from slnlab.objectives._confidence_penalty import confidence_penalty
from slnlab.objectives._label_codes import bit_losses, label_codes
from slnlab.objectives._prior_penalty import batch_prior_penalty, prior_penalty
from slnlab.objectives._shifted_gaussian import shifted_gaussian
from slnlab.objectives._softmax import softmax
from slnlab.objectives._symmetric_divergence import symmetric_divergence
from slnlab.objectives.cores2 import CORES2
from slnlab.objectives.disc import DISC
from slnlab.objectives.elr import ELR, early_learning
from slnlab.objectives.learned_transition import LearnedTransition
from slnlab.objectives.mixmatch import co_guess, co_refine, sharpen
from slnlab.objectives.revised_transition import RevisedTransition
from slnlab.objectives.sop import SOP, SampleNoise

__all__ = [
    "CORES2",
    "DISC",
    "ELR",
    "SOP",
    "LearnedTransition",
    "RevisedTransition",
    "SampleNoise",
    "batch_prior_penalty",
    "bit_losses",
    "bootstrapping",
    "co_guess",
    "co_refine",
    "confidence_penalty",
    "early_learning",
    "label_codes",
    "prior_penalty",
    "sharpen",
    "shifted_gaussian",
    "softmax",
    "symmetric_divergence",
]

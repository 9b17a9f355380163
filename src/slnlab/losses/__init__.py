"""Class-wise losses: logits (B, C) → the loss (B, C) of each class as the label.

The target weighs a row into the loss of its sample: :func:`expected_loss`. So noise on the targets, soft targets,
label smoothing and mixup compose with every loss here.

Each file holds one function; import it from here. :class:`Forward` and :class:`Backward` check or invert their
transition matrix once.
"""

from slnlab.losses._ael import ael
from slnlab.losses._agce import agce
from slnlab.losses._amse import amse
from slnlab.losses._anl_ce import anl_ce
from slnlab.losses._aul import aul
from slnlab.losses._backward import Backward, backward
from slnlab.losses._cross_entropy import cross_entropy
from slnlab.losses._eps_softmax_ce import eps_softmax_ce
from slnlab.losses._eps_softmax_ce_mae import eps_softmax_ce_mae
from slnlab.losses._forward import Forward, forward
from slnlab.losses._gce import gce
from slnlab.losses._jal_ce import jal_ce
from slnlab.losses._label_smoothing import label_smoothing
from slnlab.losses._logit_clip import logit_clip
from slnlab.losses._mae import mae
from slnlab.losses._nce import nce
from slnlab.losses._nce_ael import nce_ael
from slnlab.losses._nce_agce import nce_agce
from slnlab.losses._nce_aul import nce_aul
from slnlab.losses._nce_rce import nce_rce
from slnlab.losses._phuber_ce import phuber_ce
from slnlab.losses._reverse_ce import reverse_ce
from slnlab.losses._sce import sce
from slnlab.losses.expected import expected_loss

__all__ = [
    "Backward",
    "Forward",
    "ael",
    "agce",
    "amse",
    "anl_ce",
    "aul",
    "backward",
    "cross_entropy",
    "eps_softmax_ce",
    "eps_softmax_ce_mae",
    "expected_loss",
    "forward",
    "gce",
    "jal_ce",
    "label_smoothing",
    "logit_clip",
    "mae",
    "nce",
    "nce_ael",
    "nce_agce",
    "nce_aul",
    "nce_rce",
    "phuber_ce",
    "reverse_ce",
    "sce",
]

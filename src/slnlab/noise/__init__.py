"""Label-noise models: pure functions of labels, a generator, and images or class probabilities.

Labels are int64 CPU tensors of shape (N,). A function changes none of its arguments but the generator's state. It
imports only the errors and plain helpers of slnlab, so it serves any PyTorch program:

    >>> import torch
    >>> from slnlab.noise import symmetric
    >>> labels = torch.arange(10).repeat(5000)
    >>> given = symmetric(labels, rate=0.4, num_classes=10, generator=torch.Generator().manual_seed(0))
    >>> round((given != labels).double().mean().item(), 2)
    0.4
"""

from __future__ import annotations

from slnlab.noise._asymmetric import asymmetric, next_class
from slnlab.noise._asymmetric_exact import asymmetric_exact
from slnlab.noise._clean import clean
from slnlab.noise._from_record import from_record
from slnlab.noise._human import human
from slnlab.noise._instance_dependent import instance_dependent
from slnlab.noise._open_set import Replacement, open_set
from slnlab.noise._part_dependent import part_dependent
from slnlab.noise._symmetric import symmetric
from slnlab.noise._symmetric_exact import symmetric_exact
from slnlab.noise._symmetric_inclusive import symmetric_inclusive
from slnlab.noise._transition import read_transition, transition
from slnlab.noise.label_csv import from_csv, to_csv
from slnlab.noise.record import NoiseRecord

__all__ = [
    "NoiseRecord",
    "Replacement",
    "asymmetric",
    "asymmetric_exact",
    "clean",
    "from_csv",
    "from_record",
    "human",
    "instance_dependent",
    "next_class",
    "open_set",
    "part_dependent",
    "read_transition",
    "symmetric",
    "symmetric_exact",
    "symmetric_inclusive",
    "to_csv",
    "transition",
]

"""Methods, one file each: the samples to learn from, their targets, and the networks."""

from slnlab.methods.base import Method
from slnlab.methods.single_network import SingleNetwork

__all__ = ["Method", "SingleNetwork"]

"""Methods: which samples to learn from, with which targets, in which network. One file each."""

from slnlab.methods.base import Method
from slnlab.methods.single_network import SingleNetwork

__all__ = ["Method", "SingleNetwork"]

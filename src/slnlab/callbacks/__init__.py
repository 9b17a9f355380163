"""Lightning callbacks. The momentum model and label correction work with any LightningModule."""

from slnlab.callbacks.correction import LabelCorrection, correct_labels
from slnlab.callbacks.momentum import MomentumAverage, MomentumModel

__all__ = ["LabelCorrection", "MomentumAverage", "MomentumModel", "correct_labels"]

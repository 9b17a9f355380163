"""Where images and labels come from, and how they reach the network."""

from slnlab.data.datamodule import ImageDataModule
from slnlab.data.source import Source

__all__ = ["ImageDataModule", "Source"]

"""Where images and labels come from, and how they reach the network."""

from slnlab.data.datamodule import Batch, ImageDataModule, IndexedDataModule, Samples
from slnlab.data.source import Source
from slnlab.data.streamed import StreamedDataModule

__all__ = ["Batch", "ImageDataModule", "IndexedDataModule", "Samples", "Source", "StreamedDataModule"]

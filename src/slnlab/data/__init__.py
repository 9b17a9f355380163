"""Data sets, their label noise, and their way to the network."""

from slnlab.data.batches import Batch, Images, Labels, Samples
from slnlab.data.datamodule import IndexedDataModule
from slnlab.data.decoded import DecodedDataModule
from slnlab.data.features import FeatureDataModule
from slnlab.data.images import ImageDataModule
from slnlab.data.source import Source
from slnlab.data.streamed import StreamedDataModule

__all__ = [
    "Batch",
    "DecodedDataModule",
    "FeatureDataModule",
    "ImageDataModule",
    "Images",
    "IndexedDataModule",
    "Labels",
    "Samples",
    "Source",
    "StreamedDataModule",
]

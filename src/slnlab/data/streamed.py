"""Images streamed from disk: workers decode the files, the device treats whole batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from slnlab.data.augment import view
from slnlab.data.batches import EvaluationBatch, EvaluationBatches
from slnlab.data.datamodule import EvaluationSplit, IndexedDataModule, Stored
from slnlab.data.decoding import Decoder, Paths, Reader
from slnlab.data.inject import LabelNoise
from slnlab.data.source import Split
from slnlab.errors import ConfigError
from slnlab.image_folder.decoding import Background
from slnlab.image_folder.survey import check_visible
from slnlab.processes.cores import cores, processes_here
from slnlab.processes.distributed import shard, world_size
from slnlab.record.result import Preprocessing
from slnlab.schema.kinds import Count, CountOrZero, PixelRange, Positive
from slnlab.streams import Streams

log = logging.getLogger(__name__)

Sampling = Literal["standard", "balanced"]


class LabelledPaths(NamedTuple):
    """Paths of N images, and their `labels` (N,) int64, in data set order."""

    paths: Paths
    labels: Tensor


class FileSource(Protocol):
    """A data set of image files. A new one is a class with these members, and a file in `conf/data/`.

    It may also have `true_labels()` and `replaced()`, see `slnlab.data.source`; what `slnlab.data.source.stated`
    names; and `inspect(directory, workers, mixed_depths)`, see `IndexedDataModule.inspect`. `mixed_depths` allows
    images of 8 bits and of more together, because the user gave the pixel range of the latter.
    """

    name: str

    def prepare(self) -> None:
        """Check that the files exist. It is called once, in one process.

        Raises:
            slnlab.errors.DataError: files are missing.
        """

    def load(self, split: Split) -> LabelledPaths:
        """Return the images of a split. The labels of `train` may be noisy, those of the others are clean.

        Raises:
            slnlab.errors.DataError: lists are missing or corrupt.
        """


class StreamedDataModule(IndexedDataModule):
    """Images from files, with their own noisy labels or with added label noise.

    Worker processes decode the images and scale them to one size, as bytes. The device crops, flips and normalises
    whole batches with named random streams. So results do not depend on the number of workers, and memory holds only
    the path and label of each image. The sample table has a row for every training image. An epoch has all of them, or
    `per_class` of each *given* label, drawn for each epoch (`rows`). Label correction, passes and monitors of an epoch
    use the samples of that epoch; a pass after training uses those of the first epoch.

    Only the middle square of an image is used.

    Args:
        source, noise: see `TrainingSamples`. The noise cannot use the images, which are not in memory.
        image_size: height and width s of the network's input: a random crop (in evaluation the middle) of the image at
            s + 2·padding.
        padding: mean margin of the crop on each side, in pixels.
        sampling: "standard" or "balanced".
        per_class: images of each given label in a balanced epoch, at most the size of the smallest class; None: that
            size.
        clean_val: evaluate on the cleanly labelled validation images, as `val_clean`.
        workers: number of decoding processes for each process of the run; None: one per CPU, 0: none.
        channels: 3.
        pixel_range, background: see `slnlab.image_folder.decoding.read_rgb`.
        mixed_depths: with `pixel_range`, allow images of 8 bits and of more together.
        read_timeout: longest time for one image, in seconds; None: no limit.
        options: see `IndexedDataModule`.

    Raises:
        ConfigError: the images do not have 3 channels.
    """

    reads_while_training = True

    def __init__(
        self,
        source: FileSource,
        noise: LabelNoise | Mapping[str, Any],
        *,
        image_size: Count,
        padding: CountOrZero,
        mean: Sequence[float],
        std: Sequence[Positive],
        sampling: Sampling = "standard",
        per_class: Count | None = None,
        clean_val: bool = True,
        workers: CountOrZero | None = None,
        channels: int = 3,
        pixel_range: PixelRange | None = None,
        mixed_depths: bool = True,
        background: Background = "white",
        read_timeout: Positive | None = None,
        **options: Any,
    ) -> None:
        super().__init__(source, noise, padding=padding, mean=mean, std=std, clean_val=clean_val, **options)
        if channels != 3 or len(self.normalise.mean) != 3:
            raise ConfigError(f"data.channels, data.mean: images from files have 3 channels, not {channels}")
        self.sampling, self.per_class = sampling, per_class
        self.workers = workers
        self.pixel_range, self.mixed_depths, self.background = pixel_range, mixed_depths, background
        self.read_timeout = read_timeout
        self._size = (image_size, image_size)
        self._train: Decoder
        self._evaluated: dict[EvaluationSplit, tuple[Decoder, Tensor]] = {}
        self._drawn: tuple[int, Tensor] | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        height, width = (side + 2 * self.crop_flip.padding for side in self._size)
        read = {"pixel_range": self.pixel_range and list(self.pixel_range), "background": self.background}
        return super().preprocessing.model_copy(update={"resize": (height, width), **read})

    def rows(self, epoch: int) -> Tensor:
        """Return the training samples (M,) of an epoch, ascending; balanced: `per_class` of each given label."""
        if self.sampling == "standard":
            return self._pool
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = (epoch, self._draw(epoch))
        return self._drawn[1]

    def _draw(self, epoch: int) -> Tensor:
        # Draws on the CPU are the same for every device.
        pool, given = self._pool.cpu(), self.labels.given.cpu()
        shuffled = pool[torch.randperm(len(pool), generator=Streams(self.seed)("balanced sampling", epoch))]
        by_class = shuffled[given[shuffled].argsort(stable=True)]
        counts = given[shuffled].bincount(minlength=self.num_classes)
        rank = torch.arange(len(pool)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        return by_class[rank < self._of_each_class].sort().values.to(self._pool.device)

    def paths(self, rows: Tensor) -> list[str]:
        return [self._train.paths.relative(row) for row in rows.tolist()]

    def file(self, row: int) -> Path:
        """Return the image file of a training sample."""
        return self._train.paths[row]

    def evaluation_batches(self, split: EvaluationSplit) -> EvaluationBatches:
        device = self.labels.given.device
        if split == "val":
            decoder, labels, rows = self._train, self.labels.given, self.val_index
        else:
            decoder, labels = self._evaluated[split]
            rows, labels = torch.arange(len(labels), device=device), labels.to(device)
        batches = [shard(len(batch)).of(batch) for batch in rows.split(self.eval_batch_size)]
        stored = self._reader(decoder, batches)

        def make(step: int, index: Tensor) -> EvaluationBatch:
            pixels = view(*stored(step), self.crop_flip.padding, self._size)
            return EvaluationBatch(self.normalise(pixels), labels[index])

        return EvaluationBatches(batches, make)

    def _stored_in(self, batches: Sequence[Tensor]) -> Callable[[int], Stored]:
        return self._reader(self._train, batches)

    def _reader(self, decoder: Decoder, batches: Sequence[Tensor]) -> Reader:
        workers = max(1, cores() // processes_here(world_size())) if self.workers is None else self.workers
        sizes = [len(batch) for batch in batches]
        # One copy to the CPU is faster than a copy for each batch.
        rows = torch.cat([*batches]).cpu().split(sizes) if batches else []
        return Reader(decoder, rows, workers, self.labels.given.device, self.read_timeout)

    def _prepare(self) -> None:
        self.source.prepare()

    def inspect(self, directory: Path) -> None:
        inspect = getattr(self.source, "inspect", None)
        if inspect is not None:
            inspect(directory, self.workers, self.pixel_range is not None and self.mixed_depths)

    def _read(self) -> None:
        paths, labels = self.source.load("train")
        kept = self._kept(labels)
        if self.pixel_range is not None:
            log.info(
                "data.pixel_range: pixels from %g to %g become 0 to 255 in images of more than 8 bits",
                *self.pixel_range,
            )
        if len(kept.rows) < len(labels):
            paths = Paths(paths.root, map(paths.relative, kept.rows.tolist()))
        added = self._use_labels(kept, lambda: [paths.relative(row) for row in range(len(paths))])
        if added is not None and len(added.replaced):
            raise ConfigError(f"noise: {self.noise.name} replaces images, but these images stay in their files")
        self._hold_out(len(kept.rows))
        self._add_threshold_samples()
        check_visible(paths, self.background)
        self._train = self._decoder(paths)
        if self.sampling == "balanced":
            self._of_each_class = self._balanced_size()
        for split in self.evaluation_splits:
            if split != "val":
                files, clean = self.source.load(split)
                self._check_labels(split, clean)
                self._evaluated[split] = (self._decoder(files), clean)

    def _balanced_size(self) -> int:
        """The number of images of each class in a balanced epoch."""
        smallest, which = self.labels.given[self._pool].bincount(minlength=self.num_classes).min(0)
        if smallest == 0:
            raise ConfigError(
                f"data.sampling: balanced, but no training image of {self.name} has the label "
                f"{self.classes[which] if self.classes else int(which)}; choose standard"
            )
        found = int(smallest) if self.per_class is None else self.per_class
        if found > smallest:
            raise ConfigError(
                f"data.per_class: {self.per_class}, but only {int(smallest)} training images of {self.name} have "
                f"the label {self.classes[which] if self.classes else int(which)}"
            )
        return found

    def _decoder(self, paths: Paths) -> Decoder:
        return Decoder(paths, self._size[0] + 2 * self.crop_flip.padding, self.pixel_range, self.background)

    def to(self, device: torch.device | str) -> StreamedDataModule:
        """Move the labels to a device, and so the batches; return itself."""
        super().to(device)
        self._drawn = None
        return self

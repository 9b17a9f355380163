"""Any map-style dataset as the `(index, image)` that the sample table is addressed by."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset, IterableDataset

from slnlab.errors import ConfigError


class IndexedDataset(Dataset[tuple[int, Any]]):
    """Sample i of a dataset of `(image, label)` becomes `(i, image)`.

    The label is left out because it stands in row i of the sample table, where label correction may change its
    target; a dataset copied into the workers of a DataLoader would never learn of that.

    >>> import torch
    >>> from torch.utils.data import DataLoader, TensorDataset
    >>> from slnlab import SampleTable
    >>> images, labels = torch.rand(4, 3, 8, 8), torch.tensor([2, 0, 1, 2])
    >>> table = SampleTable(labels, num_classes=3)
    >>> loader = DataLoader(IndexedDataset(TensorDataset(images, labels)), batch_size=2, shuffle=True)
    >>> for index, image in loader:
    ...     targets = table.targets(index)  # (2, 3)

    Args:
        dataset: map-style, its items begin with the image. Its order must not change.

    Raises:
        ConfigError: an iterable-style dataset, whose samples have no index.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        if isinstance(dataset, IterableDataset):
            raise ConfigError(f"IndexedDataset: {type(dataset).__name__} is iterable-style, its samples have no index")
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.dataset[index][0]

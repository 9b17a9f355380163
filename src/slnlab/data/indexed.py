"""Any map-style dataset with items `(index, image)`, for use with the sample table."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset, IterableDataset

from slnlab.errors import ConfigError


class IndexedDataset(Dataset[tuple[int, Any]]):
    """Dataset of `(i, image)` made from a dataset of `(image, label)`.

    Row i of the sample table holds the label and its target. Label correction may change the target, and copies of the
    dataset in the workers of a DataLoader would not see the change.

    >>> import torch
    >>> from torch.utils.data import DataLoader, TensorDataset
    >>> from slnlab import SampleTable
    >>> images, labels = torch.rand(4, 3, 8, 8), torch.tensor([2, 0, 1, 2])
    >>> table = SampleTable(labels, num_classes=3)
    >>> loader = DataLoader(IndexedDataset(TensorDataset(images, labels)), batch_size=2, shuffle=True)
    >>> for index, image in loader:
    ...     targets = table.targets(index)  # (2, 3)

    Args:
        dataset: a map-style dataset. Its items begin with the image, and its order is fixed.

    Raises:
        ConfigError: the dataset is iterable-style, so its samples have no index.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        if isinstance(dataset, IterableDataset):
            raise ConfigError(f"IndexedDataset: {type(dataset).__name__} is iterable-style, its samples have no index")
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.dataset[index][0]

"""The `(index, image)` wrapper of any dataset."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import slnlab.data.indexed
from slnlab import SampleTable
from slnlab.data.indexed import IndexedDataset
from slnlab.errors import ConfigError


class Squares(Dataset[tuple[Tensor, int]]):
    """Image i is filled with i², its label is i mod 3."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((1, 2, 2), float(index**2)), index % 3


@pytest.mark.parametrize("workers", [0, 2])
def test_every_image_comes_with_its_row(workers: int) -> None:
    """In any order, from any process."""
    torch.manual_seed(0)
    loader = DataLoader(IndexedDataset(Squares()), batch_size=4, shuffle=True, num_workers=workers)
    met = []
    for index, image in loader:
        assert index.dtype == torch.int64
        assert torch.equal(image[:, 0, 0, 0], index.float() ** 2)
        met += index.tolist()
    assert sorted(met) == list(range(10))
    assert met != sorted(met)


def test_rows_are_those_of_the_wrapped_dataset() -> None:
    """A subset has its own rows from 0 on; the table is made from its labels."""
    chosen = [7, 3, 5]
    subset = Subset(Squares(), chosen)
    table = SampleTable(torch.tensor([label for _, label in subset]), num_classes=3)
    dataset = IndexedDataset(subset)
    assert len(dataset) == 3
    for position, original in enumerate(chosen):
        index, image = dataset[position]
        assert index == position
        assert image[0, 0, 0] == original**2
        assert table["given"][index] == original % 3


def test_extra_items_of_a_dataset_are_dropped() -> None:
    images, labels, weights = torch.rand(4, 1, 2, 2), torch.arange(4), torch.rand(4)
    index, image = IndexedDataset(TensorDataset(images, labels, weights))[2]
    assert index == 2
    assert torch.equal(image, images[2])


def test_an_iterable_dataset_is_refused() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(())

    with pytest.raises(ConfigError, match="Stream is iterable-style"):
        IndexedDataset(Stream())


def test_the_documented_example_runs() -> None:
    assert doctest.testmod(slnlab.data.indexed).failed == 0

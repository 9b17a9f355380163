"""Oversampling: how often each sample is drawn, by hand; its order; and what it does not go with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from slnlab.config import check, compose
from slnlab.data import IndexedDataModule
from slnlab.data.oversampling import equally_often
from slnlab.errors import ConfigError
from slnlab.processes import distributed
from slnlab.training import assemble
from slnlab.training.settling import settle


def drawn(labels: list[int], seed: int = 0) -> list[int]:
    return equally_often(torch.tensor(labels), torch.Generator().manual_seed(seed)).tolist()


def test_the_draws_by_hand() -> None:
    """Twelve draws of three labels: of nine samples four, of one sample four times that, of two samples each twice."""
    labels = [0] * 9 + [2] + [5] * 2
    counts = torch.tensor(drawn(labels)).bincount(minlength=12).tolist()
    assert sorted(counts[:9]) == [0] * 5 + [1] * 4
    assert counts[9:] == [4, 2, 2]
    assert drawn(labels) == drawn(labels) != drawn(labels, seed=1)


def test_a_remainder_goes_to_labels_at_random() -> None:
    """Five draws of three labels: 2, 2 and 1; and each sample is as likely as any other of its label."""
    labels = torch.tensor([0, 0, 0, 1, 2])
    counts = torch.stack([torch.tensor(drawn(labels.tolist(), seed)).bincount(minlength=5) for seed in range(600)])
    of_labels = torch.stack([counts[:, :3].sum(1), counts[:, 3], counts[:, 4]], 1)
    assert of_labels.sort(1).values.unique(dim=0).tolist() == [[1, 2, 2]]
    torch.testing.assert_close(of_labels.double().mean(0), torch.full((3,), 5 / 3).double(), atol=0.1, rtol=0)
    torch.testing.assert_close(counts[:, :3].double().mean(0), torch.full((3,), 5 / 9).double(), atol=0.1, rtol=0)


def made(*overrides: str) -> IndexedDataModule:
    data = assemble.datamodule(compose(["data.imbalance=20", "data.batch_size=64", *overrides]))
    data.setup()
    return data


def order(data: IndexedDataModule, epoch: int) -> list[Tensor]:
    return [make().index for make in data.epoch(epoch)]


def test_an_epoch_has_equal_classes_of_given_labels_and_a_pass_each_sample_once() -> None:
    data = made("data.oversampling=true", "noise.rate=0.3", "data.noisy_val=20")
    steps = order(data, 3)
    rows = torch.cat(steps)
    assert torch.equal(data.drawn_index, torch.cat(order(data, 0)).unique())
    assert (len(rows), len(steps)) == (len(data.train_index), data.steps_per_epoch)
    given = data.labels.given[rows].bincount(minlength=10)
    assert given.max() - given.min() <= 1
    assert set(rows.tolist()) <= set(data.train_index.tolist())
    assert data.labels.true[rows].bincount(minlength=10).float().std() > given.float().std()  # type: ignore[index]
    passed = torch.cat([samples.index for samples in data.passes("clean", "judge", 0)])
    assert torch.equal(passed, data.train_index)
    plain = made("noise.rate=0.3", "data.noisy_val=20")
    assert sorted(torch.cat(order(plain, 3)).tolist()) == plain.train_index.tolist()


def test_the_draws_depend_on_seed_and_epoch_and_are_cut_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made("data.oversampling=true")
    later = [rows.tolist() for rows in order(data, 5)]
    again = made("data.oversampling=true")
    assert [rows.tolist() for rows in order(again, 5)] == later
    assert [rows.tolist() for rows in order(again, 4)] != later
    assert [rows.tolist() for rows in order(made("data.oversampling=true", "seed=1"), 5)] != later
    parts = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: 2)
        parts.append(order(made("data.oversampling=true"), 5))
    assert [torch.cat(both).tolist() for both in zip(*parts, strict=True)] == later


def test_what_oversampling_does_not_go_with_is_refused(tmp_path: Path) -> None:
    for method in ("dividemix", "ssr_plus"):
        with pytest.raises(ConfigError, match=rf"data\.oversampling: method={method} makes batches of its own"):
            check(compose([f"method={method}", "data.oversampling=true"]))
    for method in ("sln_mo_lc", "disc"):
        check(compose([f"method={method}", "data.oversampling=true"]))
    with pytest.raises(ConfigError, match=r"data\.oversampling: an epoch of data\.sampling=balanced has equal"):
        check(compose(["data=clothing1m", "noise=real", f"data.source.root={tmp_path}", "data.oversampling=true"]))


def test_without_oversampling_the_identity_is_as_before() -> None:
    assert "oversampling" not in settle(compose([])).identity["data"]
    assert settle(compose(["data.oversampling=true"])).identity["data"]["oversampling"] is True

"""Finished runs made by hand."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from slnlab.config.identity import digest
from slnlab.record.metrics import summarise_test
from slnlab.record.result import LabelFindings, Preprocessing, Result, ResultRow, Timing

LABELS = {
    "ce": {"network": "CE"},
    "sgd_noise_parameters": {"network": "SGD noise on parameters"},
    "sgd_noise_outputs": {"network": "SGD noise on outputs"},
    "sln": {"network": "SLN", "momentum": "SLN-MO"},
    "sln_mo_lc": {"network": "SLN-MO-LC (network)", "momentum": "SLN-MO-LC"},
    "dividemix": {"network": "DivideMix 1 (network)", "mean": "DivideMix", "ensemble": "DivideMix (ensemble)"},
}


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run directory as training leaves it, and return it.

    `accuracies` are the network's by epoch; the momentum model's are 0.01 higher. `draw` chooses the noisy labels;
    `noise_seed` is the configured seed, if it is another. `seconds` is the total training time.
    """

    def make(
        name: str,
        accuracies: Sequence[float] = (0.5, 0.75),
        *,
        method: str = "ce",
        seed: int = 0,
        sigma: float = 0.0,
        data: str = "digits",
        noise: str = "sym",
        rate: float = 0.4,
        val: Sequence[float] | None = None,
        tested: bool = True,
        loss_wrong: float = 3.0,
        findings: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        draw: int | None = 0,
        noise_seed: int | None = None,
        seconds: float = 3.0,
    ) -> Path:
        directory = tmp_path / name
        directory.mkdir(parents=True)
        rows = []
        for epoch, accuracy in enumerate(accuracies, 1):
            row = {"epoch": float(epoch), "train/loss_correct": 1 / epoch, "train/loss_wrong": loss_wrong}
            for offset, weights in enumerate(LABELS[method]):
                if tested:
                    row[f"test/{weights}/accuracy"] = accuracy + offset / 100
                if val:
                    row[f"val/{weights}/accuracy"] = val[epoch - 1]
            rows.append(row)
        with (directory / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        found = {
            "given_accuracy": 0.6,
            "true_accuracy": 0.9,
            "memorised": 0.25,
            "recovered": 0.5,
            "auroc": 0.875,
            "average_precision": 0.75,
        }
        identity = {
            "seed": seed,
            "sln": {"sigma": sigma},
            "data": {"name": data, "train_size": None},
            "noise": {"name": noise, "rate": rate, "seed": draw if noise_seed is None else noise_seed},
            "method": {"name": method},
            "optimizer": {"_target_": "torch.optim.SGD", "name": "sgd", "lr": 0.02, "momentum": 0.9},
            "trainer": {"max_epochs": len(rows)},
        }
        for section, keys in (settings or {}).items():
            identity[section] = {**identity.get(section, {}), **keys}  # type: ignore[dict-item]
        Result(
            data=data,
            noise=noise,
            noise_rate=rate,
            method=method,
            seed=seed,
            group=digest({key: value for key, value in identity.items() if key != "seed"}),
            identity=identity,
            epochs=len(rows),
            rows={
                name: ResultRow(
                    title=title,
                    secondary=title.endswith("(network)"),
                    test_accuracy=summarise_test(rows, name),
                    findings=LabelFindings(**found | (findings or {})),
                )
                for name, title in LABELS[method].items()
            },
            preprocessing=Preprocessing(resize=(8, 8), crop=(8, 8), mean=[0.5], std=[0.5]),
            label_noise={"realised_rate": 0.38, "hash": f"abc{draw}", "seed": draw},
            timing=Timing(seconds_per_epoch=1.5 + seed, images_per_second=100.0, total_seconds=seconds),
            environment={"processor": "Abacus", "gpus": [], "git": {"commit": "c0ffee", "dirty": False}},
        ).save(directory / "result.json")
        (directory / "config.yaml").write_text("seed: 0\n")
        hidden = directory / ".hydra"
        hidden.mkdir()
        (hidden / "config.yaml").write_text("seed: 0\n")
        return directory

    return make


@pytest.fixture
def read_csv() -> Callable[[Path], list[dict[str, str]]]:
    def read(path: Path) -> list[dict[str, str]]:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return read

"""Clothing1M, on a small copy in its published layout: lists, label files, JPEGs of several sizes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kill_matrix
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as tv

from slnlab.config import compose
from slnlab.data import StreamedDataModule
from slnlab.data.batches import Batch
from slnlab.data.clothing1m import Clothing1M
from slnlab.data.decoding import Decoder, Paths
from slnlab.errors import ConfigError, DataError, SlnlabError
from slnlab.image_folder import decoding as image_files
from slnlab.methods.dividemix import DivideMix, Turn
from slnlab.methods.single_network import SingleNetwork
from slnlab.processes import distributed
from slnlab.processes.stopping import Stopped
from slnlab.record.metrics import read_metrics
from slnlab.record.result import Result
from slnlab.train import train
from slnlab.training.settling import settle

REAL = {"_target_": "slnlab.noise.clean", "name": "real", "rate": 0.0, "seed": 0}
SIZES = {"noisy_train": 42, "clean_train": 5, "clean_val": 9, "clean_test": 11}
CLASSES = 3


def write(root: Path) -> Path:
    """The small copy. Classes 0, 1 and 2 have 18, 14 and 10 of the noisy training images."""
    rng = np.random.default_rng(0)
    labels: dict[str, list[str]] = {"noisy_label_kv.txt": [], "clean_label_kv.txt": []}
    number = 0
    for split, size in SIZES.items():
        keys = []
        for row in range(size):
            number += 1
            key = f"images/{number % 2}/{number % 7:02d}/{number},{number * 3}.jpg"
            path = root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = [(64, 64), (64, 80), (90, 64)][row % 3]
            coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BILINEAR).save(path, quality=95)
            keys.append(key)
            noisy = split == "noisy_train"
            label = (0 if row < 18 else 1 if row < 32 else 2) if noisy else row % CLASSES
            labels["noisy_label_kv.txt" if noisy else "clean_label_kv.txt"].append(f"{key} {label}")
        (root / f"{split}_key_list.txt").write_text("\n".join(keys) + "\n")
    for name, lines in labels.items():
        (root / name).write_text("\n".join(reversed(lines)) + "\n")
    return root


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("clothing1m"))


def make(root: Path, **options: Any) -> StreamedDataModule:
    """Pixels are left alone, ((pixel/255 − 0)/1, and read as 28 = 24 + 2·2 pixels."""
    defaults: dict[str, Any] = {
        "num_classes": CLASSES,
        "batch_size": 8,
        "eval_batch_size": 10,
        "mean": [0.0] * 3,
        "std": [1.0] * 3,
        "image_size": 24,
        "padding": 2,
        "flip": True,
        "workers": 0,
    }
    datamodule = StreamedDataModule(Clothing1M(str(root)), REAL, **(defaults | options))
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def given(root: Path, split: str = "noisy_train") -> list[tuple[str, int]]:
    """Path and label in the order of the list, read here anew."""
    lines = (
        (root / ("noisy" if split == "noisy_train" else "clean"))
        .with_name(f"{split.split('_')[0]}_label_kv.txt")
        .read_text()
        .splitlines()
    )
    labels = dict(line.split(" ") for line in lines)
    return [(key, int(labels[key])) for key in (root / f"{split}_key_list.txt").read_text().split()]


def square(path: Path) -> Tensor:
    """By torchvision: the shorter side at 28, the middle 28 of the longer."""
    image = tv.center_crop(tv.resize(Image.open(path).convert("RGB"), 28), [28, 28])
    return tv.pil_to_tensor(image)


def pixels(image: Tensor) -> Tensor:
    assert image.dtype == torch.float32
    return (image * 255).round().to(torch.uint8)


# What is read


def test_labels_follow_the_order_of_the_list(shared: Path) -> None:
    datamodule = make(shared)
    expected = given(shared)
    assert datamodule.labels.given.tolist() == [label for _, label in expected]
    assert len(datamodule.labels.given) == 42, "the whole noisy training list"
    assert datamodule.labels.true is None
    assert datamodule.noise_record is None
    loaded = Clothing1M(str(shared)).load("train")
    assert [str(loaded.paths[row].relative_to(shared)) for row in range(42)] == [key for key, _ in expected]


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_sees_the_centre_crop_and_the_correct_label(shared: Path, workers: int) -> None:
    datamodule = make(shared, workers=workers)
    loaders = datamodule.val_dataloader()
    assert list(loaders) == datamodule.evaluation_splits == ["val_clean", "test"]
    for split, name in (("val_clean", "clean_val"), ("test", "clean_test")):
        for _ in range(2):  # again, from the beginning
            batches = list(loaders[split])
            assert torch.cat([batch.label for batch in batches]).tolist() == [label for _, label in given(shared, name)]
            images = pixels(torch.cat([batch.image for batch in batches]))
            wanted = [tv.center_crop(square(shared / key), [24, 24]) for key, _ in given(shared, name)]
            assert torch.equal(images, torch.stack(wanted))


def test_a_training_image_is_a_crop_or_its_mirror_image(shared: Path) -> None:
    datamodule = make(shared)
    found = set()
    for made in datamodule.epoch(0):
        batch = made()
        for row, image in zip(batch.index.tolist(), pixels(batch.image), strict=True):
            whole = square(shared / given(shared)[row][0])
            outcomes = {}
            for top in range(5):
                for left in range(5):
                    crop = whole[:, top : top + 24, left : left + 24]
                    outcomes[crop.numpy().tobytes()] = (top, left, False)
                    outcomes[crop.flip(2).numpy().tobytes()] = (top, left, True)
            found.add(outcomes[image.numpy().tobytes()])
    assert len(found) > 20
    assert {top for top, _, _ in found} == {left for _, left, _ in found} == set(range(5))


def everything(datamodule: StreamedDataModule) -> list[Tensor]:
    """All that training and label correction see of two epochs."""
    tensors: list[Tensor] = []
    for epoch in range(2):
        tensors += [tensor for made in datamodule.epoch(epoch) for tensor in made()[:2]]
        tensors += [
            tensor for samples in datamodule.passes("augmented", "label correction", epoch) for tensor in samples
        ]
    return tensors


@pytest.mark.parametrize("sampling", ["standard", "balanced"])
def test_batches_do_not_depend_on_the_number_of_workers(shared: Path, sampling: str) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    options = {"sampling": sampling, "per_class": 7, "seed": 3}
    alone = everything(make(shared, workers=0, **options))
    for workers in (1, 2):
        together = everything(make(shared, workers=workers, **options))
        assert len(together) == len(alone)
        assert all(map(torch.equal, together, alone))
    assert torch.equal(torch.get_rng_state(), before), "nothing is drawn from the global generator"
    assert not all(map(torch.equal, everything(make(shared, **(options | {"seed": 4}))), alone))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_empty_batch_is_allowed(shared: Path, workers: int) -> None:
    """The unlabelled part of DivideMix's batches is empty when all samples are labelled."""
    batches = [torch.tensor(rows, dtype=torch.int64) for rows in ([5, 3], [], [1], [])]
    read = make(shared, workers=workers).reading(batches)
    for number, rows in enumerate(batches):
        images = read(number)
        shapes = {images.view(torch.Generator()).shape, images.view().shape, images.pixels().shape}
        assert shapes == {(len(rows), 3, 24, 24)}


def test_batches_may_be_made_in_any_order(shared: Path) -> None:
    in_order = [made().image for made in make(shared).epoch(0)]
    made = list(make(shared, workers=2).epoch(0))
    for step in (2, 0, 1, 5, 2, 0):
        assert torch.equal(made[step]().image, in_order[step])


@pytest.mark.parametrize("processes", [2, 3])
def test_the_parts_of_all_processes_make_the_batches(
    shared: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    def seen() -> list[Tensor]:
        datamodule = make(shared, sampling="balanced", per_class=7)
        made = [batch() for batch in datamodule.epoch(1)]
        evaluated = list(datamodule.evaluation_batches("test"))
        return [*(batch.index for batch in made), *(batch.image for batch in made), *(b.image for b in evaluated)]

    alone = seen()
    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    parts = []
    for rank in range(processes):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(seen())
    assert any(len(part) == 0 for part in parts[-1]) or processes == 2, "a part may be empty"
    for whole, pieces in zip(alone, zip(*parts, strict=True), strict=True):
        assert torch.equal(torch.cat(pieces), whole)


# Sampling


def test_standard_sampling_is_every_image_once(shared: Path) -> None:
    datamodule = make(shared)
    index = torch.cat([made().index for made in datamodule.epoch(0)])
    assert sorted(index.tolist()) == list(range(42))
    assert index.tolist() != list(range(42))


def test_an_imbalanced_part_keeps_each_image_with_its_label(shared: Path) -> None:
    """Of 18, 13 and 11 images: all, 13/√9 = 4 and 11/9 = 1, rounded down, drawn by `split_seed`."""
    every = dict(given(shared))
    sizes = torch.tensor(list(every.values())).bincount().tolist()
    part = make(shared, imbalance=9, noisy_val=2, flip=False)
    assert part.labels.given.bincount().tolist() == [sizes[0], sizes[1] // 3, sizes[2] // 9]
    names = part.paths(torch.arange(len(part.labels.given)))
    assert [every[name] for name in names] == part.labels.given.tolist()
    whole = make(shared, flip=False)
    known = whole.paths(whole.rows(0))
    seen = {
        names[row]: image
        for rows, images in part.passes("clean", "x", 0)
        for row, image in zip(rows, images, strict=True)
    }
    assert len(seen) == len(names) - 2, "without those held out"
    for rows, images in whole.passes("clean", "x", 0):
        for row, image in zip(rows, images, strict=True):
            assert known[row] not in seen or torch.equal(seen[known[row]], image)
    assert names != (other := make(shared, imbalance=9, split_seed=1)).paths(torch.arange(len(other.labels.given)))


def test_balanced_sampling_redraws_each_given_label_every_epoch(shared: Path) -> None:
    datamodule = make(shared, sampling="balanced", per_class=7)
    labels = datamodule.labels.given
    assert datamodule.steps_per_epoch == 3
    subsets = []
    for epoch in range(40):
        rows = datamodule.rows(epoch)
        assert rows.tolist() == sorted(set(rows.tolist()))
        assert labels[rows].bincount().tolist() == [7, 7, 7]
        subsets.append(rows)
    assert len({tuple(rows.tolist()) for rows in subsets}) == 40
    # Uniform within a class: of 40 draws, an image of class 0 is in 40·7/18 = 15.6 ± 3.1 on average.
    counts = torch.cat(subsets).bincount(minlength=42)
    assert 3 < int(counts[labels == 0].min()) <= int(counts[labels == 0].max()) < 29
    assert torch.equal(datamodule.rows(5), subsets[5]), "of the epoch alone"
    # Training, passes and monitors of an epoch see its subset.
    trained = torch.cat([made().index for made in datamodule.epoch(3)])
    passed = torch.cat([index for index, _ in datamodule.passes("clean", "x", 3)])
    assert trained.sort().values.tolist() == passed.tolist() == subsets[3].tolist()
    assert datamodule.train_index.tolist() == subsets[0].tolist(), "without a trainer, the first epoch"


def test_held_out_images_are_never_drawn(shared: Path) -> None:
    datamodule = make(shared, sampling="balanced", per_class=5, noisy_val=12, split_seed=1)
    assert datamodule.evaluation_splits == ["val", "val_clean", "test"]
    drawn = {row for epoch in range(20) for row in datamodule.rows(epoch).tolist()}
    assert not drawn & set(datamodule.val_index.tolist())
    (first, second) = datamodule.evaluation_batches("val")
    labels = [given(shared)[row][1] for row in datamodule.val_index.tolist()]
    assert torch.cat([first.label, second.label]).tolist() == labels


def test_balanced_sampling_defaults_to_the_smallest_class(shared: Path) -> None:
    """Also when some are held out: then as many as are left of it."""
    labels = torch.tensor([label for _, label in given(shared)])
    whole = make(shared, sampling="balanced")
    assert len(whole.rows(0)) == 3 * labels.bincount().min()
    some = make(shared, sampling="balanced", noisy_val=12, split_seed=1)
    left = labels[[row for row in range(len(labels)) if row not in set(some.val_index.tolist())]]
    assert labels[some.rows(0)].bincount().tolist() == [int(left.bincount().min())] * 3


def test_more_samples_of_a_class_than_exist_are_refused(shared: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.per_class: 11, but only 10 training images .* the label dress"):
        make(shared, sampling="balanced", per_class=11, classes=["shirt", "suit", "dress"])


def test_paths_are_held_in_one_array() -> None:
    keys = [f"images/ä/{number}.jpg" for number in range(1000)]
    paths = Paths("root", keys)
    assert len(paths) == 1000
    assert [paths[row] for row in (0, 7, 999)] == [Path("root") / keys[row] for row in (0, 7, 999)]
    assert all(not isinstance(value, (list, tuple, dict)) for value in vars(paths).values())


# What may be wrong


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return write(tmp_path)


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_named(own: Path, workers: int) -> None:
    broken = own / given(own)[20][0]
    whole = broken.read_bytes()
    for content, message in (
        (None, "no such file"),
        (b"", "no readable image"),
        (whole[: len(whole) // 2], "no readable image"),
    ):
        broken.unlink(missing_ok=True)
        if content is not None:
            broken.write_bytes(content)
        with pytest.raises(DataError) as error:
            list(make(own, workers=workers).passes("clean", "x", 0))
        assert str(error.value).startswith(f"{broken}: ")
        assert message in str(error.value)
        assert "Traceback" not in str(error.value)


def test_wrong_lists_are_named(own: Path) -> None:
    (first, _), *_ = given(own)
    labels = own / "noisy_label_kv.txt"
    before = labels.read_text()
    edit(labels, lambda text: "\n".join(line for line in text.splitlines() if not line.startswith(first)))
    with pytest.raises(DataError, match=f"noisy_label_kv.txt: has no label for {first}, which noisy_train_key_list"):
        make(own)
    labels.write_text(before.replace(f"{first} 0", f"{first} zero"))
    with pytest.raises(DataError, match=r"noisy_label_kv.txt: line 42 must be a path and a class, found"):
        make(own)
    labels.write_text(before.replace(f"{first} 0", f"{first} 3"))
    with pytest.raises(DataError, match=r"a training label lies outside the 3 classes"):
        make(own)
    labels.write_text(before)
    with pytest.raises(DataError, match=r"data\.num_train: the configuration says 43, the files hold 42"):
        make(own, num_train=43)
    (own / "clean_test_key_list.txt").write_text("\n")
    make(own, test=False)
    with pytest.raises(DataError, match=r"clean_test_key_list.txt: is empty"):
        make(own)
    (own / "clean_val_key_list.txt").unlink()
    with pytest.raises(DataError, match=r"it has no clean_val_key_list\.txt or annotations/clean_val_key_list\.txt"):
        make(own)


def test_duplicates_and_tabs_in_the_labels_file_are_handled(own: Path) -> None:
    """Repeated labels must agree; labels of unlisted images are ignored."""
    (first, label), *_ = expected = given(own)
    labels = own / "noisy_label_kv.txt"
    before = labels.read_text()
    labels.write_text(f"\ufeff{first}\t{label}\r\nimages/no such list.jpg 1\r\n{before}", encoding="utf-8", newline="")
    assert make(own).labels.given.tolist() == [given for _, given in expected]
    labels.write_text(f"{before}{first} {label + 1}\n")
    with pytest.raises(DataError, match=rf"line 43 gives {first} the label {label + 1}, a line above {label}$"):
        make(own)


def test_lists_may_lie_in_annotations(own: Path) -> None:
    (own / "annotations").mkdir()
    for file in own.glob("*.txt"):
        file.rename(own / "annotations" / file.name)
    assert len(make(own).labels.given) == 42


def test_a_missing_data_set_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"it has no images .*on request.*data\.source\.root"):
        make(tmp_path)


# Whole runs


def small(root: Path, runs: Path, *more: str) -> list[str]:
    return [
        "data=clothing1m",
        f"data.source.root={root}",
        f"runs_dir={runs}",
        "model=cnn",
        "model.widths=[4,4,8,8]",
        "data.num_train=42",
        "data.num_classes=3",
        "data.classes=null",
        "data.per_class=7",
        "data.batch_size=8",
        "data.image_size=24",
        "data.padding=2",
        "data.workers=0",
        "trainer.max_epochs=3",
        "trainer.accelerator=cpu",
        "trainer.progress=false",
        "method=sln_mo_lc",
        "correction.last_epochs=2",
        "momentum.decay=0.5",
        *more,
    ]


def test_a_run_is_reported_at_its_best_clean_validation_epoch(shared: Path, tmp_path: Path) -> None:
    overrides = small(shared, tmp_path)
    result = train(compose(overrides))
    folder = tmp_path / settle(compose(overrides)).subdir
    rows = read_metrics(folder / "metrics.csv")
    of_momentum = [row["val_clean/momentum/accuracy"] for row in rows]
    best = of_momentum.index(max(of_momentum))  # for its network too
    for name in ("network", "momentum"):
        accuracies = [row[f"val_clean/{name}/accuracy"] for row in rows]
        found = result.rows[name].test_accuracy
        assert found is not None
        assert found.best_clean_val is not None
        assert found.best_clean_val.epoch == best + 1
        assert found.best_clean_val.accuracy == rows[best][f"test/{name}/accuracy"]
        assert found.best_noisy_val is None
        assert result.rows[name].clean_val_accuracy.best.accuracy == max(accuracies)  # type: ignore[union-attr]
        assert result.rows[name].findings.memorised is None
    assert result.label_noise == {"name": "real", "num_samples": 42, "hash": result.label_noise["hash"]}
    assert not (folder / "noise.npz").exists(), "there is no truth to record"
    assert Result.load(folder / "result.json") == result
    # The same with workers, which is the same run; and in two processes, but for rounding.
    assert settle(compose([*overrides, "data.workers=2"])).subdir == settle(compose(overrides)).subdir
    train(compose([*overrides, "data.workers=2"]), tmp_path / "workers")
    again = read_metrics(tmp_path / "workers" / "metrics.csv")
    timings = ("seconds", "images_per_second")
    assert [{k: v for k, v in row.items() if k not in timings} for row in again] == [
        {k: v for k, v in row.items() if k not in timings} for row in rows
    ]


@pytest.mark.parametrize("method", ["co_teaching", "sigua", "dividemix"])
def test_selecting_methods_run_with_their_own_values(shared: Path, tmp_path: Path, method: str) -> None:
    of_sln = ("method=", "correction.")
    overrides = [override for override in small(shared, tmp_path) if not override.startswith(of_sln)]
    result = train(compose([*overrides, f"method={method}"]))
    table = torch.load(next(tmp_path.rglob("last.ckpt")), weights_only=True)["sample_table"]
    drawn = torch.zeros(42, dtype=torch.bool)
    drawn[make(shared, sampling="balanced", per_class=7).rows(2)] = True
    if method == "dividemix":
        assert bool(((table["clean"] > 0.5) == table["selected"])[drawn].all()), "of the split of the last epoch"
        assert not (table["clean"][drawn] == 1).all(), "the mixture was fitted"
    else:
        assert result.noise_rate_used is not None
        assert (result.noise_rate_used.value, result.noise_rate_used.source) == (0.4, "configured")
    best = result.rows["network" if method == "sigua" else "mean"].test_accuracy
    assert best is not None
    assert best.best_clean_val is not None


@pytest.fixture
def decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[tuple[int, str]]]:
    """By which process was which image decoded, since the last time this was asked? Also of forked processes."""
    log, real, start = tmp_path / "decoded.txt", image_files.load, 0
    log.touch()

    def logged(path: Path) -> Any:
        with log.open("a") as file:
            file.write(f"{os.getpid()} {path}\n")
        return real(path)

    def since() -> list[tuple[int, str]]:
        nonlocal start
        lines = log.read_text().splitlines()[start:]
        start += len(lines)
        return [(int(process), path) for process, path in (line.split(" ") for line in lines)]

    monkeypatch.setattr(image_files, "load", logged)
    return since


OWN_BATCHES = {
    "dividemix": (),
    "elr_plus": (),
    "pes": ("method.early_epochs=1", "method.stage_epochs=1", "method.classifier_epochs=2"),
    "pes_semi": ("method.early_epochs=1", "method.classifier_epochs=1", "method.steps=4"),
    "sop_plus": ("method.cutout=4",),
}
"""Methods that choose their batches or need more than one view of them."""


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=() if name in ("dividemix", "pes_semi") else pytest.mark.slow) for name in OWN_BATCHES],
)
def test_workers_change_no_result_of_any_method(
    shared: Path, tmp_path: Path, method: str, decoded: Callable[[], list[tuple[int, str]]]
) -> None:
    of_sln = ("method=", "correction.")
    overrides = [override for override in small(shared, tmp_path) if not override.startswith(of_sln)]
    overrides += [f"method={method}", *OWN_BATCHES[method]]
    found = []
    for workers in (0, 2):
        folder = tmp_path / f"{workers} workers"
        train(compose([*overrides, f"data.workers={workers}"]), folder)
        assert not multiprocessing.active_children(), "no worker is left"
        checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        found.append((checkpoint["state_dict"] | checkpoint["sample_table"], decoded()))
    (alone, by_itself), (together, by_workers) = found
    assert {process for process, _ in by_itself} == {os.getpid()}
    assert os.getpid() not in {process for process, _ in by_workers}
    assert Counter(path for _, path in by_workers) == Counter(path for _, path in by_itself)
    assert together.keys() == alone.keys()
    assert all(torch.equal(together[name], value) for name, value in alone.items())


def test_a_step_of_dividemix_decodes_each_image_once_for_all_its_views(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: Callable[[], list[tuple[int, str]]]
) -> None:
    of_sln = ("method=", "correction.")
    overrides = [override for override in small(shared, tmp_path) if not override.startswith(of_sln)]
    keys = [str(shared / key) for key, _ in given(shared)]
    step, turns = DivideMix.step, list[Turn]()

    def watched(method: DivideMix, batch: Any) -> None:
        found = [path for _, path in decoded()]
        step(method, batch)
        assert not decoded()
        if isinstance(batch, Turn):
            wanted = [keys[row] for images in (batch.labelled, batch.unlabelled) for row in images.index.tolist()]
            if batch.number == 0 and batch.progress % 1 == 0:  # the epoch's evaluation and the split went before
                found = found[-len(wanted) :]
            assert found == wanted
            turns.append(batch)

    monkeypatch.setattr(DivideMix, "step", watched)
    train(compose([*overrides, "method=dividemix"]))
    assert len(turns) > 4


def test_label_correction_rewrites_exactly_the_epochs_subset(shared: Path, tmp_path: Path) -> None:
    overrides = small(shared, tmp_path, "correction.last_epochs=1", "trainer.max_epochs=2")
    train(compose(overrides))
    checkpoint = next(tmp_path.rglob("last.ckpt"))
    table = torch.load(checkpoint, weights_only=True)["sample_table"]
    corrected = (table["weight"] != 1).nonzero().flatten()
    drawn = make(shared, sampling="balanced", per_class=7).rows(1)
    assert set(corrected.tolist()) <= set(drawn.tolist())
    assert len(drawn) - len(corrected) == 1, "the sample of the largest loss keeps its label"
    soft = table["soft"][corrected]
    torch.testing.assert_close(soft.sum(1), torch.ones(len(corrected)))
    assert ((soft > 0) & (soft < 1)).all(), "soft predictions"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_stopped_within_an_epoch_reads_only_the_rest(
    shared: Path, tmp_path: Path, workers: int, decoded: Callable[[], list[tuple[int, str]]]
) -> None:
    """With balanced sampling and label correction, whose pass over the epoch's samples is made once more."""
    overrides = [*small(shared, tmp_path, f"data.workers={workers}"), "data.batch_size=2"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(compose(overrides), whole)
    loss = SingleNetwork.loss

    def told(method: SingleNetwork, batch: Batch) -> Tensor:
        if (method.current_epoch, method.steps_of_epoch) == (1, 6):
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(method, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SingleNetwork, "loss", told)
        with pytest.raises(Stopped):
            train(compose(overrides), stopped)
    decoded()
    train(compose(overrides), stopped)
    assert kill_matrix.differences(whole, stopped, epochs=3) == []
    epoch, done, evaluation = 3 * 7, 7 * 2, SIZES["clean_val"] + SIZES["clean_test"]
    second, third = epoch + (epoch - done), epoch + epoch  # an epoch: correction, training
    judged = epoch + SIZES["clean_test"]  # the labels once by both models, and so the test set
    assert len(decoded()) == second + evaluation + third + evaluation + judged


def test_a_killed_worker_costs_only_the_begun_epoch(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = small(shared, tmp_path / "runs", "data.workers=2", "data.eval_batch_size=5")
    killed, image_of = tmp_path / "killed", Decoder.__call__

    def kills_once(decoder: Decoder, row: int) -> Tensor:
        done = next(tmp_path.glob("runs/**/metrics.csv"), None)
        if done is not None and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return image_of(decoder, row)

    monkeypatch.setattr(Decoder, "__call__", kills_once)
    with pytest.raises(SlnlabError, match=rf"^{shared}/images/.*\.jpg: the process that decoded it has died \(SIGKILL"):
        train(compose(overrides))
    metrics = next(tmp_path.glob("runs/**/metrics.csv"))
    before = read_metrics(metrics)
    assert 1 <= len(before) < 3
    train(compose(overrides))
    assert read_metrics(metrics)[: len(before)] == before
    assert len(read_metrics(metrics)) == 3


def test_two_processes_train_on_clothing1m(shared: Path, tmp_path: Path) -> None:
    options = ["correction.last_epochs=1", "trainer.max_epochs=2", "trainer.devices=2", "data.workers=1"]
    result = train(compose(small(shared, tmp_path, *options)))
    assert result.rows["momentum"].test_accuracy.best_clean_val is not None  # type: ignore[union-attr]
    table = torch.load(next(tmp_path.rglob("last.ckpt")), weights_only=True)["sample_table"]
    corrected = (table["weight"] != 1).nonzero().flatten()
    drawn = make(shared, sampling="balanced", per_class=7).rows(1)
    assert set(corrected.tolist()) <= set(drawn.tolist())
    assert len(drawn) - len(corrected) == 1, "both processes' parts, of which one sample has the largest loss"

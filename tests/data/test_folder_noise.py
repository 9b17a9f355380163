"""Trusted labels of a folder: noise on them, their replacement, and presets of these runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from folders import SMALL, composed, put
from omegaconf import OmegaConf

from slnlab.config import check, compose
from slnlab.config.container import container_of
from slnlab.data import IndexedDataModule
from slnlab.errors import ConfigError, DataError
from slnlab.image_folder.listing import read_image_folder
from slnlab.train import train
from slnlab.training import assemble, probability_run
from slnlab.training.settling import settle


@pytest.mark.parametrize("noise", ["part_dependent", "open_set", "human"])
def test_noise_on_decoded_images_is_refused(folder: Path, noise: str) -> None:
    options = {
        "open_set": ["+noise.donor._target_=slnlab.data.digits.Digits"],
        "human": [f"noise.path={__file__}", "noise.annotation=worse"],
    }
    with pytest.raises(ConfigError, match=f"{noise} .* those of folder stay in their files"):
        check(compose(composed(folder, f"noise={noise}", *options.get(noise, []))))


def streamed(folder: Path, *overrides: str) -> IndexedDataModule:
    """The data of a run, as it would train on them."""
    config = OmegaConf.create(container_of(compose(composed(folder, *SMALL, *overrides))))
    check(config)
    datamodule = assemble.datamodule(config)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def test_true_labels_can_be_given_noise(folder: Path) -> None:
    clean = streamed(folder, "noise=none")
    assert clean.noise_record is not None
    assert clean.noise_summary()["num_wrong"] == 0
    assert clean.labels.true.tolist() == read_image_folder(str(folder)).splits["train"].labels
    for noise, rate in ((["noise=sym", "noise.rate=0.5"], 0.5), (["noise=asym", "noise.class_map={cat: dog}"], 0.25)):
        spoiled = streamed(folder, *noise)
        assert spoiled.noise_record is not None
        assert torch.equal(spoiled.labels.true, clean.labels.true)
        assert torch.equal(spoiled.labels.wrong, spoiled.labels.given != spoiled.labels.true)
        assert abs(spoiled.noise_record.realised_rate - rate) < 0.2
    again = folder / "noise.npz"
    spoiled.noise_record.save(again)
    assert torch.equal(streamed(folder, "noise=run", f"noise.path={again}").labels.given, spoiled.labels.given)


def test_given_labels_can_come_from_a_csv_file_by_path(folder: Path, tmp_path: Path) -> None:
    paths, true = read_image_folder(str(folder)).splits["train"]
    file = tmp_path / "labels.csv"

    def table(rows: list[str], header: str = "label,path,note") -> Path:
        file.write_text("\n".join([header, *rows]) + "\n")
        return file

    names = [
        "dog" if path.endswith("3.png") else ("cat", "dog")[label] for path, label in zip(paths, true, strict=True)
    ]
    rows = [f"{name},./{path},x" for name, path in zip(names, paths, strict=True)]
    table([*sorted(rows), "cat,test/cat/a.png,"])
    found = streamed(folder, "noise=csv", f"noise.path={file}")
    assert found.labels.given.tolist() == [("cat", "dog").index(name) for name in names]
    assert int(found.labels.wrong.sum()) == 1
    by_number = table([("0" if row.startswith("cat") else "1") + row[3:] for row in rows])
    again = streamed(folder, "noise=csv", f"noise.path={by_number}", "data.train_size=12")
    assert again.labels.given.tolist() == found.labels.given.tolist()[:12]
    owl = ["owl" + rows[0][3:], *rows[1:]]
    for bad, header, message in (
        (
            rows[1:],
            "label,path,note",
            f"no row of 1 of 16 training images, such as '{paths[0]}'; the column path holds",
        ),
        ([*rows, rows[0]], "label,path,note", f"line 18: a second row of '{paths[0]}'"),
        (owl, "label,path,note", r"line 2: there is no class 'owl'; the classes are 'cat', 'dog'"),
        (rows, "label,label_noisy", r"line 1 must be a header with the columns 'path' and 'label', as these"),
        (["cat"], "label,path,note", r"line 2: must have 3 columns, has 1"),
    ):
        with pytest.raises(DataError, match=message):
            streamed(folder, "noise=csv", f"noise.path={table(bad, header)}")


def test_instance_dependent_noise_uses_the_same_network_and_images(folder: Path, tmp_path: Path) -> None:
    put(folder, *(f"train/{kind}/more{n}.png" for kind in ("cat", "dog") for n in range(20)))
    chosen = ["noise=dependent", "noise.rate=0.25", "trainer.max_epochs=1", f"runs_dir={tmp_path}"]
    config = compose(composed(folder, *SMALL, *chosen, "method=ce"))
    config.noise.clean_run.append("trainer.max_epochs=1")
    (needed,) = probability_run.needed(settle(config))
    clean = needed.spec.config
    assert (clean.model.name, clean.data.image_size, clean.data.padding) == ("cnn", 8, 1)
    result = train(config)
    assert result.label_noise["num_wrong"] == int(0.25 * 56)
    assert result.rows["network"].findings.memorised is not None


@pytest.mark.parametrize(
    ("overrides", "epochs", "milestones", "decay", "last"),
    [
        (["model=cnn"], 60, [30, 45], round(1 - 1 / int(0.05 * 60 * 13), 4), 10),
        (["model=cnn", "trainer.max_epochs=6"], 6, [3, 4], round(1 - 1 / int(0.05 * 6 * 13), 4), 1),
        (["model=cnn", "trainer.max_epochs=1"], 1, [1, 1], 0.0, 1),
        (["model=cnn", "trainer.max_epochs=9000"], 9000, [4500, 6750], 0.999, 1530),
        (["model.pretrained=false"], 60, [30, 45], round(1 - 1 / int(0.05 * 60 * 13), 4), 10),
        ([], 20, [10], round(1 - 1 / int(0.05 * 20 * 13), 4), 10),
        (["trainer.max_epochs=8"], 8, [4], 0.8, 4),
    ],
)
def test_the_schedule_depends_on_pretraining_and_budget(
    folder: Path, overrides: list[str], epochs: int, milestones: list[int], decay: float, last: int
) -> None:
    put(folder, *(f"train/cat/more{n}.png" for n in range(400 - 16)))
    config = compose(composed(folder, "method=sln_mo_lc", *overrides))
    check(config)
    found = container_of(config)
    assert (found["trainer"]["max_epochs"], found["scheduler"]["milestones"]) == (epochs, milestones)
    assert (found["momentum"]["decay"], found["correction"]["last_epochs"]) == (decay, last)
    assert found["optimizer"]["lr"] == (0.001 if len(milestones) == 1 else 0.02)

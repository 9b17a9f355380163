"""Forward and backward correction as methods: sources of the matrix and its use."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from by_hand import Bare, probabilities

from slnlab.analysis.transition import estimate_transition
from slnlab.config import check, compose
from slnlab.data.digits import Digits
from slnlab.errors import ConfigError, DataError
from slnlab.models import SmallCNN
from slnlab.noise import NoiseRecord
from slnlab.record.checkpoints import best_weights
from slnlab.record.result import Result
from slnlab.train import train
from slnlab.training import transition_run
from slnlab.training.settling import settle

SMALL = (
    "data.train_size=200",
    "trainer.max_epochs=8",
    "optimizer.lr=0.05",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "noise.rate=0.2",
)


def setup_with(made: Bare, true: list[int], given: list[int]) -> Bare:
    """A method as in a run whose noise turned `true` into `given`."""
    record = NoiseRecord(true=torch.tensor(true), given=torch.tensor(given), num_classes=2, name="mine", rate=0.25)
    made.trainer.datamodule.noise_record = record
    made.method.setup("fit")
    return made


def test_the_known_matrix_by_hand(bare: Callable[..., Bare]) -> None:
    """Of four zeros one became 1, no one became 0: T = (¾ ¼; 0 1). S = (.8, .2), given 1: S·T = (.6, .4).

    T⁻¹ = (4/3 −1/3; 0 1): row 1 weighs −log S by (0, 1), row 0 by (4/3, −1/3).
    """
    true, given = [0, 0, 0, 0, 1], [0, 0, 0, 1, 1]
    for method, expected in (
        ("forward", (-log(0.6), -log(0.4))),
        ("backward", (-4 / 3 * log(0.8) + 1 / 3 * log(0.2), -log(0.2))),
    ):
        made = bare(f"method={method}", "method.transition=known", given=given, num_classes=2)
        setup_with(made, true, given)
        for sample, value in ((0, expected[0]), (3, expected[1])):
            assert made.loss(probabilities([[0.8, 0.2]]), index=[sample]).item() == pytest.approx(value)
        used = made.method.transition_used
        assert used is not None
        assert (used.source, used.max_error) == ("known", 0.0)
        assert used.matrix == [[0.75, 0.25], [0.0, 1.0]]


def test_method_clip_reaches_the_loss(bare: Callable[..., Bare]) -> None:
    """T = 1, S = (1 − 1e-9, 1e-9), given 1: −log of 1e-7 as in the authors' code, of 1e-9 as in the paper."""
    logits = torch.tensor([[9 * log(10), 0.0]], dtype=torch.float64)
    for method in ("forward", "backward"):
        for clip, expected in (([], 7 * log(10)), (["method.clip=null"], 9 * log(10))):
            made = setup_with(
                bare(f"method={method}", "method.transition=known", *clip, given=[0, 1], num_classes=2), [0, 1], [0, 1]
            )
            assert made.loss(logits, index=[1]).item() == pytest.approx(expected, rel=1e-6)
        with pytest.raises(ConfigError, match=r"method\.clip.*less than 0\.5"):
            check(compose([f"method={method}", "method.clip=0.5"]))


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_the_matrix_can_come_from_a_file(suffix: str, bare: Callable[..., Bare], tmp_path: Path) -> None:
    matrix, path = np.array([[0.5, 0.5], [0.25, 0.75]]), tmp_path / f"t{suffix}"
    if suffix == ".npy":
        np.save(path, matrix)
    else:
        np.savetxt(path, matrix, delimiter=",")
    made = bare("method=forward", f"method.transition={path}", given=[0, 0, 0, 0, 1], num_classes=2)
    setup_with(made, [0, 0, 0, 0, 1], [0, 0, 0, 1, 1])
    # S·T = (.8·½ + .2·¼, .8·½ + .2·¾)
    assert made.loss(probabilities([[0.8, 0.2]]), index=[0]).item() == pytest.approx(-log(0.45))
    used = made.method.transition_used
    assert used is not None
    assert used.source == "file"
    assert used.max_error == pytest.approx(0.25)
    assert used.row_l1 == pytest.approx([0.5, 0.5])
    elsewhere = tmp_path / f"other{suffix}"
    elsewhere.write_bytes(path.read_bytes())
    subdirs = {settle(compose(["method=forward", f"method.transition={file}"])).subdir for file in (path, elsewhere)}
    assert len(subdirs) == 1, "a file counts by its content"


def test_invalid_matrix_files_are_refused(bare: Callable[..., Bare], tmp_path: Path) -> None:
    for text, error, said in (
        ("a,b\n", DataError, "cannot be read"),
        ("0.5,0.6\n0.5,0.5\n", ConfigError, "row 0 sums to"),
        ("1,0,0\n0,1,0\n0,0,1\n", ConfigError, "has 3 classes"),
        ("0.5,0.5\n0.5,0.5\n", ConfigError, "singular"),
    ):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(error, match=said):
            bare("method=backward", f"method.transition={tmp_path / 't.csv'}", given=[0, 1], num_classes=2)
    (tmp_path / "empty.npy").touch()
    with pytest.raises(DataError, match="cannot be read as a matrix"):
        bare("method=backward", f"method.transition={tmp_path / 'empty.npy'}", given=[0, 1], num_classes=2)
    with pytest.raises(ConfigError, match=r"slnlab\.train makes them"):
        bare("method=forward", given=[0, 1], num_classes=2)


@pytest.fixture(scope="module")
def made_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, Result]:
    """Forward and backward, estimated; where, and their results."""
    runs = tmp_path_factory.mktemp("runs")
    overrides = [*SMALL, f"runs_dir={runs}", "seed=4"]
    forward, backward = (train(compose([*overrides, f"method={name}"])) for name in ("forward", "backward"))
    return runs, forward, backward


def test_the_source_run_on_noisy_labels_is_made_once(made_runs: tuple[Path, Result, Result]) -> None:
    runs, forward, backward = made_runs
    (file,) = runs.rglob("probabilities.npz")
    noisy = Result.load(file.parent / "result.json")
    assert noisy.method == "early_stopping"
    assert noisy.identity["data"]["noisy_val"] == 20
    assert noisy.identity["data"]["test"] is False
    assert noisy.label_noise["hash"] == forward.label_noise["hash"], "the same noisy labels"
    assert noisy.rows["best"].test_accuracy is None
    config = compose([*SMALL, f"runs_dir={runs}", "seed=4", "method=forward"])
    assert list(transition_run.needed(settle(config))) == [], "it is there"
    assert Path(transition_run.filled(settle(config)).config.method.estimate_from) == file
    for result in (forward, backward):
        assert result.transition_used is not None
        assert result.transition_used.source == "estimated"
    assert forward.transition_used == backward.transition_used


def test_the_estimate_uses_the_best_weights_on_unaugmented_images(
    made_runs: tuple[Path, Result, Result],
) -> None:
    runs, forward, _ = made_runs
    (file,) = runs.rglob("probabilities.npz")
    with np.load(file) as content:
        stored = torch.from_numpy(content["probabilities"])
    best = best_weights(torch.load(file.parent / "checkpoints" / "last.ckpt", weights_only=True))
    network = SmallCNN(1, 10)
    network.load_state_dict(best)
    data = compose(["data=digits"]).data
    pixels = (Digits().load("train").images[:200].double() / 255 - data.mean[0]) / data.std[0]
    with torch.no_grad():
        every = network.eval()(pixels.float()).softmax(1)
    torch.testing.assert_close(stored, every, rtol=1e-4, atol=1e-5)  # the 20 that chose the epoch included
    used = forward.transition_used
    assert used is not None
    torch.testing.assert_close(torch.tensor(used.matrix).double(), estimate_transition(stored, 0.97))
    true = torch.tensor(forward.label_noise["transition_matrix"]).double()
    assert used.max_error == pytest.approx((torch.tensor(used.matrix).double() - true).abs().max().item())


def test_removed_predictions_are_made_again(made_runs: tuple[Path, Result, Result]) -> None:
    """A restarted run finds them; another seed makes its own."""
    runs, forward, _ = made_runs
    (file,) = runs.rglob("probabilities.npz")
    before = file.read_bytes()
    file.unlink()
    again = train(compose([*SMALL, f"runs_dir={runs}", "seed=4", "method=forward", "force=true"]))
    assert file.read_bytes() == before
    assert again.transition_used == forward.transition_used
    assert again.rows == forward.rows

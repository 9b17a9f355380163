"""The pipeline of every experiment, from the sweep to its verdict, at toy size: `make experiments-check`."""

from __future__ import annotations

import csv
import importlib
import pickle
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import comparison
import correcting
import diagnosis
import numpy as np
import paper_tables
import pytest
import verdicts
from claims import CLAIMS, Claim
from commands import run
from evidence import EXPERIMENTS, read

from slnlab.analyze import KINDS
from slnlab.figures import pareto, rank
from slnlab.report import report

pytestmark = pytest.mark.experiments

EPOCHS = 2
TOY = [
    "model=cnn",
    "model.widths=[4,4,8,8]",
    f"trainer.max_epochs={EPOCHS}",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "trainer.threads=1",
]
CLEAN = 'preset.clean_run=["model=cnn","trainer.max_epochs=1"]'


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-10 and CIFAR-100 of 100 training and 20 test images, in the published files."""
    root, rng = tmp_path_factory.mktemp("cifar"), np.random.default_rng(0)

    def write(path: Path, labels: str, classes: int, images: int) -> None:
        path.parent.mkdir(exist_ok=True)
        content = {labels: rng.integers(0, classes, images).tolist()}
        content["data"] = rng.integers(0, 256, (images, 3072), dtype=np.uint8)
        path.write_bytes(pickle.dumps(content, protocol=2))

    for number in range(1, 6):
        write(root / "cifar-10-batches-py" / f"data_batch_{number}", "labels", 10, 20)
    write(root / "cifar-10-batches-py" / "test_batch", "labels", 10, 20)
    write(root / "cifar-100-python" / "train", "fine_labels", 100, 100)
    write(root / "cifar-100-python" / "test", "fine_labels", 100, 20)
    return root


def cifar_keys(root: Path) -> list[str]:
    files = [f"data.source.root={root}", "data.source.verify=false", "data.num_train=100"]
    return [*files, "preset.correction_epochs=1", CLEAN]


def sweep(runs: Path, *overrides: str) -> None:
    ended = run("slnlab.train", "-m", *overrides, f"runs_dir={runs}")
    assert ended.returncode == 0, ended.stderr[-3000:]


def filled(name: str, runs: Path, folder: Path, parts: Sequence[str] = ("",)) -> tuple[set[tuple[str, str]], str]:
    """Report toy runs beside the paper's cells: the filled (method, column), and the page."""
    cells = [{**cell, "epochs": str(EPOCHS)} for cell in read(EXPERIMENTS / name / "paper.csv")]
    folder.mkdir()
    with (folder / "paper.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(cells[0]))
        writer.writeheader()
        writer.writerows(cells)
    for part in parts:
        report([runs / part], folder / part)
    measure = paper_tables.MEASURES[name]
    found, _ = paper_tables.cells(folder, measure)
    assert all(len(cell.values) == 1 for cell in found if cell.ours)
    return {(cell.paper["method"], cell.paper["column"]) for cell in found if cell.ours}, paper_tables.page(
        folder, measure
    )


OURS = ("CE", "SLN", "SLN-MO", "SLN-MO-LC")


def test_table_1(cifar: Path, tmp_path: Path) -> None:
    shared = ["experiment=table1_cifar10", *TOY, *cifar_keys(cifar), "preset.donor.verify=false", "seed=0"]
    sweep(tmp_path / "runs", *shared, "method=ce,sln_mo_lc,sln")
    sweep(tmp_path / "runs", *shared, "noise=sym", "method=co_teaching,phuber_ce,label_smoothing")
    sweep(tmp_path / "runs", *shared, "noise=sym", "method=truncated_gce", "method.first_pruning=2")
    cells, page = filled("table1_cifar10", tmp_path / "runs", tmp_path / "table")
    expected = {(method, noise) for method in OURS for noise in ("Symmetric", "Asymmetric", "Dependent", "Open-Set")}
    assert cells == expected | {(method, "Symmetric") for method in ("GCE", "Co-Teaching", "PHuber-CE", "LS")}
    assert "12 not run" in page
    assert "unverified files" in page
    assert "No cell" not in page


def test_table_2(cifar: Path, tmp_path: Path) -> None:
    sweep(tmp_path / "runs", "experiment=table2_cifar100", *TOY, *cifar_keys(cifar), "seed=0", "method=ce,sln")
    cells, _ = filled("table2_cifar100", tmp_path / "runs", tmp_path / "table")
    assert cells == {(method, noise) for method in OURS[:3] for noise in ("Symmetric", "Asymmetric", "Dependent")}


def test_table_3(tmp_path: Path) -> None:
    clothing1m = importlib.import_module("test_clothing1m")
    root = clothing1m.write(tmp_path / "clothing1m")
    small = [key for key in clothing1m.small(root, tmp_path) if not key.startswith(("method=", "runs_dir="))]
    shared = ["experiment=table3_clothing1m", *small, f"trainer.max_epochs={EPOCHS}", "seed=0"]
    runs = tmp_path / "runs"
    sweep(runs / "balanced", *shared, "correction.last_epochs=1", "method=ce,sln_mo_lc")
    sweep(runs / "standard", *shared, "data.per_class=null", "data.sampling=standard", "method=ce,sln")
    cells, _ = filled("table3_clothing1m", runs, tmp_path / "table", ("balanced", "standard"))
    balanced, standard = ("CE", "SLN-MO-LC"), ("CE", "SLN", "SLN-MO")
    assert cells == {(method, "Noisy-class-balanced") for method in balanced} | {(m, "Standard") for m in standard}


def test_table_4(cifar: Path, tmp_path: Path) -> None:
    shared = ["experiment=table4_sln_first", *TOY, *cifar_keys(cifar), "seed=0", "noise=sym"]
    sweep(tmp_path / "runs", *shared, "method=co_teaching,sigua")
    sweep(tmp_path / "runs", *shared, "method=dividemix", "init.from=null", "method.warm_up_epochs=1")
    sweep(tmp_path / "runs", *shared, "method=dividemix", "init.from=sln")
    cells, page = filled("table4_sln_first", tmp_path / "runs", tmp_path / "table")
    methods = ("Co-Teaching", "SIGUA", "DivideMix")
    assert cells == {(first + method, "Symmetric") for first in ("", "SLN-") for method in methods}
    assert f"No cell of this table: SLN (sym, {EPOCHS} epochs), SLN-MO" in page


# Studies of our own, and the figures


def found(folder: Path) -> dict[str, int]:
    """Text of a claim → the number of its findings in a folder."""
    return {claim.text: len(list(claim.judge(folder))) for claim in CLAIMS}


@pytest.mark.parametrize("name", ["demo", "methods_digits", "cifar10_cpu", "fashion_mnist"])
def test_a_study_becomes_verdicts(name: str, cifar: Path, tmp_path: Path) -> None:
    toy = [key for key in TOY if not key.startswith("model")] if name == "fashion_mnist" else TOY
    keys = [*toy, "seed=0,1", "noise=sym", "method=ce,sln,sln_mo_lc,sgd_noise_outputs", "preset.correction_epochs=1"]
    if name == "fashion_mnist":
        if not Path("/usr/share/datasets/fashion-mnist").is_dir():
            pytest.skip("needs Debian's package dataset-fashion-mnist")
        keys += [f"data.source.root={tmp_path}", "data.train_size=100", "noise.seed=0"]
    elif name == "cifar10_cpu":
        keys += cifar_keys(cifar)
    else:
        keys += ["data.train_size=100"]
    sweep(tmp_path / "runs", f"experiment={name}", *keys)
    report([tmp_path / "runs"], tmp_path / "study")
    counts = found(tmp_path / "study")
    for text in ("avoids the drop", "CE's peak", "momentum model adds", "Label correction adds", "on logits"):
        assert sum(number for claim, number in counts.items() if text in claim) >= 1, text
    page = verdicts.page([tmp_path / "study"])
    assert "of 2 pairs" in page


def test_the_comparison_of_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values chosen on the first seed's draw, final runs on both draws, and the figures of many methods."""
    monkeypatch.setattr(comparison, "LAST", 1)
    sizes = ["data.train_size=100", "data.noisy_val=20"]
    keys = [*TOY[1:], *sizes, "noise=sym", "method=ce,early_stopping", "seed=0,1"]
    comparison.main(["methods", "--runs", str(tmp_path / "runs"), *keys])
    with (tmp_path / "runs" / "chosen.csv").open(newline="") as file:
        trials = [*csv.DictReader(file)]
    assert [(trial["method"], trial["state"]) for trial in trials] == [
        (method, "finished") for method in ("ce", "early_stopping") for _ in range(3)
    ]
    assert [trial["chosen"] for trial in trials].count("True") == 2
    where = ["data.test=true"]
    text, _ = report([tmp_path / "runs"], tmp_path / "out", where=where, reference="ce")
    assert text.count("2 (2 seeds, 2 noise draws)") == 2, "trials are left out"
    rank.figure([tmp_path / "runs"], tmp_path / "out", where)
    with (tmp_path / "out" / "rank.csv").open(newline="") as file:
        assert {(line["blocks"], line["methods"]) for line in csv.DictReader(file)} == {("2", "2")}
    pareto.figure([tmp_path / "runs"], tmp_path / "out", EXPERIMENTS / "methods_digits" / "costs.json", where=where)
    comparison.main(["methods", "--runs", str(tmp_path / "runs"), *keys])  # nothing is left to train


def test_the_diagnosis_beside_cleanlab_and_on_corrected_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of CE, its five folds, CE on the labels of each policy, and the page of all that."""

    def call(module: ModuleType, *words: object) -> None:
        monkeypatch.setattr("sys.argv", [module.__name__, *map(str, words)])
        module.main()

    runs, out = tmp_path / "runs", tmp_path / "out"
    learns = ["model.widths=[16,16,32,32]", "trainer.max_epochs=8", "data.padding=0", "optimizer.lr=0.05"]
    digits = ["data=digits", "data.train_size=300", "noise=sym", "noise.rate=0.2", "seed=0", "method=ce"]
    sweep(runs, "model=cnn", *TOY[3:], *learns, *digits)
    for _ in range(2):  # the second call trains nothing
        call(correcting, runs, "--folds", "--policies", "--seeds", 0)
    call(diagnosis, runs, "--out", out)
    scores, rates, policies = (read(out / f"{name}.csv") for name in ("scores", "rates", "policies"))
    assert {*diagnosis.OF_CLEANLAB, "mean_probability", "fold_loss"} <= {line["score"] for line in scores} | {
        line["score"] for line in rates
    }
    assert {(line["judge"], line["policy"]) for line in policies} >= {
        ("", "given labels"),
        ("CE", "relabel"),
        ("", "truth"),
    }
    (truth,) = (line for line in policies if line["policy"] == "truth")
    assert float(truth["wrong_left"]) == 0
    page = (out / "table.md").read_text("utf-8")
    for head in ("Beside cleanlab with five folds", "on corrected labels", "share of wrong labels", "digits, sym 0.2"):
        assert head in page


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of all that the figures need."""
    runs = tmp_path_factory.mktemp("digits")
    shared = [*TOY, "data=digits", "data.train_size=100", "noise=sym", "seed=0,1", "preset.correction_epochs=1"]
    sweep(runs / "methods", *shared, "method=ce,sln,sgd_noise_parameters,sgd_noise_outputs")
    sweep(runs / "sigma", *shared, "method=sln", "sln.sigma=0,1,2")
    sweep(runs / "correction", *shared, "method=sln_mo_lc", "correction.weighting=loss,inverse")
    return runs


ANALYSED = {word: claim for claim in CLAIMS for word in KINDS if f" analyze {word} " in claim.command}
"""Kind of figure → a claim that its CSV decides."""


def test_the_figures_decide_claims() -> None:
    assert {"sigma", "flatness", "propositions"} <= set(ANALYSED)


@pytest.mark.parametrize("kind", ANALYSED)
def test_a_figure_becomes_a_verdict(kind: str, digits: Path, tmp_path: Path) -> None:
    claim: Claim = ANALYSED[kind]
    runs = digits / (kind if kind in ("sigma", "correction") else "methods")
    options = {"flatness": ["--samples", "20"], "propositions": ["--samples", "2", "--draws", "100"]}
    ended = run("slnlab.analyze", kind, str(runs), "--out", str(tmp_path), *options.get(kind, []))
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert list(claim.judge(tmp_path)), f"{kind}.csv has columns that the claim does not read"

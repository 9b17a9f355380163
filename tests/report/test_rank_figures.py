"""The figures that compare many methods: average ranks, and the Pareto front of accuracy and cost."""

from __future__ import annotations

import pytest

from slnlab.analyze import main
from slnlab.errors import DataError
from slnlab.figures import pareto, rank


@pytest.fixture
def runs(make_run, tmp_path):
    """CE, SLN (with SLN-MO one point above) and the two SGD noises on two draws of symmetric and one of asym noise."""
    accuracies = {"ce": 0.6, "sln": 0.7, "sgd_noise_parameters": 0.61, "sgd_noise_outputs": 0.5}
    for method, accuracy in accuracies.items():
        for draw in range(2):
            for seed in range(2):
                make_run(f"runs/{method}{draw}{seed}", [accuracy + seed / 50], method=method, seed=seed, draw=draw)
        for seed in range(2):
            # SLN loses under asymmetric noise.
            last = 0.2 if method == "sln" else accuracy
            make_run(f"runs/{method}-{seed}", [last], method=method, seed=seed, noise="asym", draw=7)
    return tmp_path / "runs"


def test_the_ranks_of_blocks(runs, tmp_path, read_csv, capsys):
    """Two draws of symmetric noise, and two seeds of the one draw of asymmetric noise: SLN-MO is 1, 1, 4, 4."""
    main(["rank", str(runs), "--out", str(tmp_path / "out")])
    lines = {line["label"]: line for line in read_csv(tmp_path / "out/rank.csv")}
    ranks = {label: float(line["average_rank"]) for label, line in lines.items()}
    assert ranks == {
        "SGD noise on parameters": (3 + 3 + 1 + 1) / 4,
        "SLN-MO": (1 + 1 + 4 + 4) / 4,
        "CE": (4 + 4 + 2 + 2) / 4,
        "SLN": (2 + 2 + 5 + 5) / 4,
        "SGD noise on outputs": (5 + 5 + 3 + 3) / 4,
    }
    assert {line["blocks"] for line in lines.values()} == {"4"}
    said = capsys.readouterr().out
    assert "SGD noise on parameters has the best average rank, 2.0 of 5, over 4 blocks; 4 others are within" in said
    assert (tmp_path / "out/rank.png").exists()
    main(["rank", str(runs), "--out", str(tmp_path / "out"), "--where", "noise=sym"])
    assert next(iter(read_csv(tmp_path / "out/rank.csv")))["label"] == "SLN-MO"


def test_means_are_over_the_seeds_that_all_methods_have(runs, make_run, tmp_path, read_csv):
    """A third seed of CE alone would lift its mean above SLN's."""
    assert not any("other seeds" in remark for remark in rank.figure([runs], tmp_path))
    before = (tmp_path / "rank.csv").read_text()
    make_run("runs/third", [1.0], seed=2, draw=0)
    assert "in 1 of 4 blocks methods have runs of other seeds" in "".join(rank.figure([runs], tmp_path))
    assert (tmp_path / "rank.csv").read_text() == before


def test_a_method_without_all_blocks_is_not_ranked(runs, make_run, tmp_path, read_csv):
    make_run("runs/more", [0.9], method="sln_mo_lc")
    remarks = rank.figure([runs], tmp_path)
    assert "not ranked: SLN-MO-LC lacks 3 of 4 blocks" in remarks
    assert "SLN-MO-LC" not in {line["label"] for line in read_csv(tmp_path / "rank.csv")}
    alone = make_run("alone", [0.9])
    with pytest.raises(DataError, match="ranks need at least two methods"):
        rank.figure([alone], tmp_path)


def test_the_front_has_what_no_other_beats_in_cost_and_accuracy(runs, tmp_path, read_csv):
    file = tmp_path / "costs.json"
    file.write_text('{"cost": {"ce": 1, "sln": 1.05, "sgd_noise_parameters": 1.05, "sgd_noise_outputs": 0.9}}')
    pareto.figure([runs], tmp_path, file, where=["noise=sym"])
    lines = {line["label"]: line["on_front"] for line in read_csv(tmp_path / "pareto.csv")}
    assert lines == {
        "CE": "True",
        "SLN": "False",
        "SLN-MO": "True",
        "SGD noise on parameters": "False",
        "SGD noise on outputs": "True",
    }
    assert (tmp_path / "pareto.svg").exists()

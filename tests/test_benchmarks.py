"""The benchmarks run and report their measurements; speed itself is not tested."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import commands
import pytest

ROOT = Path(__file__).resolve().parents[1]
ROWS = {  # what the bench is expected to have
    "augmentation",
    "overhead",
    "sln_step",
    "momentum_update",
    "usual_loop_small",
    "usual_loop_middle",
    "usual_loop_wrn",
    "plain_lightning_small",
    "plain_lightning_wrn",
    "dividemix",
    "label_correction",
    "side_by_side",
    "growth",
    "start_up",
    "memory",
}
FIGURE = {"what", "value", "unit", "target", "sense", "interval", "judged", "details", "met"}


def check(results: dict) -> None:
    assert set(results) == {"machine", "environment", "rows"}
    assert set(results["machine"]) == {"processor", "cores", "memory_gib"}
    assert results["environment"]["packages"]["torch"]
    for row in results["rows"].values():
        assert row["title"]
        assert row["bound"]
        if row["status"] == "not yet run":
            continue
        assert row["status"] == "measured"
        assert set(row["taken"]) == {"date", "git", "load_before", "load_after", "seconds", "quick"}
        for figure in row["figures"]:
            assert set(figure) == FIGURE
            assert math.isfinite(figure["value"])
            assert (figure["met"] is None) == (figure["target"] is None)
            assert figure["details"]
            for spread in figure["details"].values():
                assert spread["low"] <= spread["q1"] <= spread["median"] <= spread["q3"] <= spread["high"]


@pytest.mark.parametrize(
    "rows", ["momentum_update,step_against_floor", pytest.param("overhead", marks=pytest.mark.slow)]
)
def test_a_quick_run_measures_chosen_rows_and_lists_the_rest(rows: str, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = commands.run("benchmarks.bench", "--quick", "--rows", rows, "--out", str(out), cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())
    check(results)
    assert set(results["rows"]) >= ROWS
    measured = {name for name, row in results["rows"].items() if row["status"] == "measured"}
    assert measured == set(rows.split(","))


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda path: path.stem)
def test_committed_results_are_complete_full_runs(path: Path) -> None:
    results = json.loads(path.read_text())
    check(results)
    assert not any(row["taken"]["quick"] for row in results["rows"].values() if "taken" in row)


def test_the_page_is_made_from_the_committed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import bench

    for folder, text, out in (("results", "page.md", "README.md"), ("results_gpu", "page_gpu.md", "GPU.md")):
        files = sorted((ROOT / "benchmarks" / folder).glob("*.json"))
        results = {path.stem: json.loads(path.read_text()) for path in files}
        assert (ROOT / "benchmarks" / out).read_text() == bench.page(results, text)


def test_the_page_on_speed_shows_the_committed_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import bench

    page = (ROOT / "docs" / "speed.md").read_text()
    files = (ROOT / "benchmarks" / "results").glob("*.json")
    results = {path.stem: json.loads(path.read_text()) for path in files}
    assert bench.with_tables(page, results) == page
    for name, result in results.items():
        assert f"<!-- {name} -->\n" + "\n".join(bench.summary(result)[:3]) in page


def test_a_row_without_a_result_is_shown_as_not_yet_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import bench

    result = json.loads(next((ROOT / "benchmarks" / "results").glob("*.json")).read_text())
    result["rows"].pop("overhead")
    title, bound = bench.ROWS["overhead"].title, bench.ROWS["overhead"].bound
    assert f"| {title} | {bound} | {bench.NOT_YET} | |" in bench.summary(result)
    assert f"| {title} | {bound} | | {bench.NOT_YET} | | | |" in bench.page({"machine": result})


def test_the_worst_of_many_figures_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import bench
    from benchmarks.measure import Figure

    figures = [Figure("", value, "×", 2.0, "at least").as_json() for value in (2.5, 1.5, 3.0)]
    row = {"title": "Epochs", "bound": "≥ 2×", "status": "measured", "figures": figures}
    shown = bench.summary({"machine": {}, "rows": {"plain_lightning_small": row}})
    assert "| Epochs, the worst part | ≥ 2× | 1.5 × | **no** |" in shown

"""Figures that need the trained network: planes, directions, and the files of each kind."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

from slnlab.config import compose
from slnlab.errors import ConfigError
from slnlab.figures import flatness, landscape, propositions, tsne
from slnlab.figures.mean_loss import MeanLoss
from slnlab.figures.surface import Surface, filter_normalised
from slnlab.train import train

TINY = ("data.train_size=100", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.progress=false")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of CE and SLN."""
    folder = tmp_path_factory.mktemp("runs")
    for method in ("ce", "sln"):
        train(compose([*TINY, "model.widths=[4,4,8,8]", f"method={method}"]), folder / method)
    return folder


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def surface() -> Surface:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)]
    return Surface(MeanLoss(nn.Sequential(*layers).eval(), torch.randn(10, 1, 4, 4), torch.arange(10) % 4, 4), seed=0)


POINTS = [(0.0, 0.0), (0.5, -1.0), (-0.25, 0.75)]


def test_each_filter_of_a_direction_has_the_norm_of_the_networks_filter() -> None:
    loss = surface().loss
    for name, weight, direction in zip(loss.names, loss.parameters, surface().directions[0], strict=True):
        if weight.ndim > 1:
            torch.testing.assert_close(direction.flatten(1).norm(dim=1), weight.detach().flatten(1).norm(dim=1))
        else:
            assert not direction.any(), f"{name}: biases and batch norms do not move"


def test_equal_shapes_get_equal_draws_scaled_to_their_own_filters() -> None:
    weight = torch.randn(2, 3)
    (one,), (three,) = (filter_normalised([w], torch.Generator().manual_seed(1)) for w in (weight, 3 * weight))
    torch.testing.assert_close(three, 3 * one)


def test_a_point_of_the_plane_is_the_loss_of_moved_weights(tmp_path: Path) -> None:
    plane = surface()
    found = plane.on(POINTS, tmp_path)
    assert found[0.0, 0.0] == plane.loss.at()
    with torch.no_grad():
        for weight, one, other in zip(plane.loss.parameters, *plane.directions, strict=True):
            weight += 0.5 * one - 1.0 * other
    assert plane.loss.at() == pytest.approx(found[0.5, -1.0])


def test_finished_points_are_kept_and_a_broken_line_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = surface().on(POINTS, tmp_path / "whole")
    surface().on(POINTS[:2], tmp_path)
    (file,) = tmp_path.glob("*.csv")
    with file.open("a") as opened:
        opened.write("\n-0.25,0.75,9.")  # a process was killed here
    computed, at = [], Surface.at

    def noted(self: Surface, point: tuple[float, float]) -> float:
        computed.append(point)
        return at(self, point)

    monkeypatch.setattr(Surface, "at", noted)
    assert surface().on(POINTS, tmp_path) == whole
    assert computed == POINTS[2:]


def test_other_weights_do_not_take_the_points_of_these() -> None:
    plane = surface()
    with torch.no_grad():
        plane.loss.parameters[0].mul_(1.01)
    assert Surface(plane.loss, 0).digest != surface().digest
    assert Surface(surface().loss, 1).digest != surface().digest


def test_two_processes_compute_the_plane_of_one(tmp_path: Path) -> None:
    alone = surface().on(POINTS, tmp_path / "one")
    assert surface().on(POINTS, tmp_path / "two", workers=2) == pytest.approx(alone, rel=1e-6)


def test_the_centre_of_a_landscape_is_the_runs_training_loss(runs: Path, tmp_path: Path) -> None:
    import slnlab

    remarks = landscape.figure([runs], tmp_path, points=3, samples=1000)
    assert (tmp_path / "landscape.png").exists()
    centres = [row for row in rows(tmp_path / "landscape.csv") if float(row["a"]) == float(row["b"]) == 0]
    assert [row["label"] for row in centres] == ["CE", "SLN"]
    for row, method in zip(centres, ("ce", "sln"), strict=True):
        expected = slnlab.load(runs / method, "network").samples["network_loss"].mean()
        assert float(row["loss_nats"]) == pytest.approx(float(expected), rel=1e-4)
    assert len(remarks) == 2


def test_flatness_has_a_line_per_run(runs: Path, tmp_path: Path) -> None:
    flatness.figure([runs], tmp_path, radii=[0.1], samples=50)
    found = rows(tmp_path / "flatness.csv")
    assert [row["label"] for row in found] == ["CE", "SLN"]
    assert all(float(row["largest_hessian_eigenvalue"]) > 0 and float(row["sam_rise_0.1"]) > 0 for row in found)


def test_tsne_has_a_line_per_image_with_its_true_class(runs: Path, tmp_path: Path) -> None:
    from slnlab.data.digits import Digits

    tsne.figure([runs / "ce"], tmp_path, split="test", samples=30, perplexity=5)
    found = rows(tmp_path / "tsne.csv")
    labels = Digits().load("test").labels
    assert len(found) == 30
    assert [int(row["class"]) for row in found] == labels[[int(row["image"]) for row in found]].tolist()


def test_tsne_draws_the_first_of_two_networks(runs: Path, tmp_path: Path) -> None:
    """An ensemble has no features, and must not end the figure of the other runs."""
    train(compose([*TINY, "model.widths=[4,4,8,8]", "method=co_teaching"]), tmp_path / "two")
    tsne.figure([runs / "ce", tmp_path / "two"], tmp_path, samples=20, perplexity=5)
    found = {(row["label"], row["weights"]) for row in rows(tmp_path / "tsne.csv")}
    assert found == {("CE", "network"), ("Co-teaching 1 (network)", "network")}
    with pytest.raises(
        ConfigError, match=r"not drawn: Co-teaching \(ensemble\): features: an ensemble has those of each"
    ):
        tsne.figure([runs / "ce", tmp_path / "two"], tmp_path, samples=20, perplexity=5, weights="ensemble")


def test_propositions_report_their_agreement(runs: Path, tmp_path: Path) -> None:
    remarks = propositions.figure([runs / "sln"], tmp_path, draws=100, samples=1)
    found = rows(tmp_path / "propositions.csv")
    assert {row["proposition"] for row in found} == {"1", "2", "3"}
    assert all(float(row["r_squared_of_all"]) > 0.8 for row in found if row["proposition"] != "2")
    assert "Proposition 3" in remarks[-1]


def test_weights_choose_the_row(runs: Path, tmp_path: Path) -> None:
    remarks = flatness.figure([runs], tmp_path, radii=[0.1], samples=20, weights="momentum")
    assert [row["weights"] for row in rows(tmp_path / "flatness.csv")] == ["momentum"]
    assert any("ce has no weights 'momentum'; it has network" in line for line in remarks)
    with pytest.raises(ConfigError, match="no run has 'best'"):
        flatness.figure([runs], tmp_path, weights="best")


def test_options_out_of_range_are_refused_before_the_runs_are_read(tmp_path: Path) -> None:
    nothing = [tmp_path / "nothing"]
    with pytest.raises(ConfigError, match="points: must be odd"):
        landscape.figure(nothing, tmp_path, points=4)
    with pytest.raises(ConfigError, match="range: must be above 0, not 0"):
        landscape.figure(nothing, tmp_path, range=0.0)
    with pytest.raises(ConfigError, match="workers: 2 processes need device=cpu, not cuda"):
        landscape.figure(nothing, tmp_path, workers=2, device="cuda")
    with pytest.raises(ConfigError, match="radii: must be at least 0"):
        flatness.figure(nothing, tmp_path, radii=[-0.1])
    with pytest.raises(ConfigError, match="perplexity: must be above 0"):
        tsne.figure(nothing, tmp_path, perplexity=0.0)
    with pytest.raises(ConfigError, match="draws: must be at least 2"):
        propositions.figure(nothing, tmp_path, draws=1)

"""model=timm: any network of timm, with weights from a local file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from slnlab.config import compose
from slnlab.config.container import container_of
from slnlab.errors import ConfigError, DataError
from slnlab.models import Timm

timm = pytest.importorskip("timm")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Weights of `test_resnet` for colour images and 1,000 classes, and their network."""
    torch.manual_seed(1)
    network = timm.create_model("test_resnet")
    torch.save(network.state_dict(), file := tmp_path_factory.mktemp("timm") / "weights.pth")
    return file, network


def test_start_loads_all_layers_but_the_last(stored: tuple[Path, Any]) -> None:
    file, theirs = stored
    ours = Timm(3, 1000, "test_resnet", str(file))
    random = ours.network.fc.weight.clone()
    ours.prepare()
    ours.start()
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(ours.eval().network.forward_features(images), theirs.eval().forward_features(images))
    assert torch.equal(ours.network.fc.weight, random), "a new classifier, even for as many classes"


def test_grey_images_see_the_sum_of_the_colour_filters(stored: tuple[Path, Any]) -> None:
    file, theirs = stored
    grey = Timm(1, 3, "test_resnet", str(file))
    grey.start()
    image = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        expected = theirs.eval().forward_features(image.expand(-1, 3, -1, -1))
        torch.testing.assert_close(grey.eval().network.forward_features(image), expected, rtol=1e-4, atol=1e-5)


def test_a_run_with_timm_resumes_nothing_from_the_file(
    stored: tuple[Path, Any], tmp_path: Path, tiny_run: Callable[..., Any]
) -> None:
    """The file is needed at the start alone: a finished run is loaded without it."""
    import slnlab

    file = tmp_path / "weights.pth"
    file.write_bytes(stored[0].read_bytes())
    words = ["model=timm", "model.architecture=test_resnet", f"model.weights={file}", "method=ce"]
    result, directory = tiny_run(*words, "trainer.max_epochs=1")
    assert result.identity["model"]["weights"] != str(file), "its content counts, not its place"
    file.unlink()
    labels, _ = slnlab.load(directory).predict(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    assert len(labels) == 2


def test_weights_mean_fine_tuning(
    tmp_path: Path, stored: tuple[Path, Any], data_set: Callable[[str], list[str]]
) -> None:
    words = [*data_set("folder"), "noise=none", "data.pixel_range=null", "model=timm", "model.architecture=test_resnet"]
    scratch = container_of(compose(words))
    tuned = container_of(compose([*words, f"model.weights={stored[0]}"]))
    rates = [config["optimizer"]["lr"] for config in (scratch, tuned)]
    assert rates == [
        scratch["preset"]["from_scratch"]["learning_rate"],
        tuned["preset"]["fine_tuning"]["learning_rate"],
    ]


def test_wrong_choices_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"model.architecture: timm has no 'test_resnt' \(did you mean test_resnet\?\)"
    ):
        Timm(3, 2, "test_resnt")
    with pytest.raises(DataError, match=r"gone.pth: there is no such file of weights"):
        Timm(3, 2, "test_resnet", str(tmp_path / "gone.pth")).prepare()
    with pytest.raises(ConfigError, match=r"model.architecture: the images have another size: Input height \(8\)"):
        Timm(3, 2, "test_vit")(torch.rand(2, 3, 8, 8))

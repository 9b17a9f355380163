"""ResNet-50 equals torchvision's; its ImageNet weights load without a download."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision

from slnlab.config import compose
from slnlab.errors import ConfigError, DataError
from slnlab.models import ResNet50, resnet
from slnlab.train import train
from slnlab.training import assemble


def test_the_network_equals_torchvisions() -> None:
    ours, theirs = ResNet50(3, 1000).eval(), torchvision.models.resnet50().eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(ours(images), theirs(images))
    # 25,557,032 as published, less the 1,000 classes' layer, with one of 14.
    assert sum(p.numel() for p in ResNet50(3, 14).parameters()) == 25_557_032 - 2049 * 1000 + 2049 * 14
    assert ResNet50(1, 10)(torch.rand(2, 1, 32, 32)).shape == (2, 10)


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Made-up ImageNet weights in a torch cache of the test's own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(1)
    state = torchvision.models.resnet50().state_dict()
    torch.save(state, folder / "made.pth")
    digest = hashlib.sha256((folder / "made.pth").read_bytes()).hexdigest()[:8]
    file = folder / f"resnet50-{digest}.pth"
    (folder / "made.pth").rename(file)

    class Weights:
        url = f"https://example.invalid/{file.name}"

        @staticmethod
        def get_state_dict(**options: Any) -> Any:
            return torch.hub.load_state_dict_from_url(Weights.url, **options)

    monkeypatch.setattr(resnet, "_WEIGHTS", Weights)
    return state


def test_pretrained_weights_load_except_for_the_last_layer(cached: dict[str, Any]) -> None:
    network = ResNet50(3, 14, pretrained=True)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert not torch.equal(before["conv1.weight"], cached["conv1.weight"]), "building it takes up nothing"
    network.prepare()
    network.start()
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key] if key.startswith("fc.") else cached[key]), key


def test_a_method_starts_from_pretrained_weights(cached: dict[str, Any]) -> None:
    config = compose(["data=cifar10", "model=resnet50", "model.pretrained=true", "method=co_teaching"])
    assemble.prepare_networks(config)
    method = assemble.method(config)
    assemble.start_networks(method)
    first, second = (network.state_dict() for network in method.networks.values())
    assert torch.equal(first["layer4.2.conv3.weight"], cached["layer4.2.conv3.weight"])
    assert torch.equal(second["layer4.2.conv3.weight"], cached["layer4.2.conv3.weight"])
    assert not torch.equal(first["fc.weight"], second["fc.weight"]), "an initialisation of its own"


def test_missing_pretrained_weights_stop_the_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    ResNet50(3, 14, pretrained=False).prepare()
    overrides = ["data=cifar10", "model=resnet50", "model.pretrained=true", f"data.source.root={tmp_path}"]
    run = tmp_path / "run"
    with pytest.raises(DataError, match=r"not in .*cache.* could not be .*no network.*resnet50-0676ba61\.pth"):
        train(compose([*overrides, "data.source.download=false"]), run)
    assert not (run / "config.yaml").exists()


def test_damaged_pretrained_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "resnet50-0676ba61.pth").write_bytes(b"half a file")
    with pytest.raises(DataError, match=r"resnet50-0676ba61\.pth is damaged"):
        ResNet50(3, 14, pretrained=True).prepare()


def test_pretrained_weights_refuse_images_of_one_channel() -> None:
    with pytest.raises(ConfigError, match=r"model\.pretrained: ImageNet's images have 3 channels, these 1"):
        ResNet50(1, 10, pretrained=True)

"""Pretrained networks give the features of their own library, or one message."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from slnlab.embedding import backbones
from slnlab.embedding.backbones import backbone
from slnlab.errors import ConfigError, DataError


@pytest.mark.parametrize("name", ["googlenet", "densenet121", "mnasnet0_5"])
def test_torchvision_features_equal_torchvisions_own(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These three are not only built and filled: GoogLeNet rescales its inputs, DenseNet's files have old names."""
    torch.manual_seed(0)
    more = {"init_weights": False} if name == "googlenet" else {}
    state = torchvision.models.get_model(name, **more).state_dict()
    if name == "densenet121":
        old = {key: re.sub(r"(norm|conv)([12])\.", r"\1.\2.", key) for key in state if "num_batches" not in key}
        state = {old[key]: state[key] for key in old}
    torch.save(state, tmp_path / "weights.pth")
    found = backbone(f"torchvision:{name}", tmp_path / "weights.pth")

    def stored(*_: Any, **__: Any) -> Any:
        return torch.load(tmp_path / "weights.pth")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", stored)
    theirs = torchvision.models.get_model(name, weights="DEFAULT").eval()
    setattr(theirs, "fc" if name == "googlenet" else "classifier", torch.nn.Identity())
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        np.testing.assert_allclose(found.network(images), theirs(images), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "file", "size"), [("vit_b_16", "vit_b_16_swag-9ac1b537.pth", 384), ("vit_h_14", "mine.pth", 518)]
)
def test_a_vision_transformer_has_the_image_size_of_its_weights(
    name: str, file: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.device("meta"):  # without memory
        state = torchvision.models.get_model(name, image_size=size).state_dict()
        monkeypatch.setattr(backbones, "read_weights", lambda _: state)
        monkeypatch.setattr(backbones, "_digest", lambda _: "none")
        found = backbone(f"torchvision:{name}", Path(file))
    assert found.transform(Image.new("RGB", (30, 20))).shape == (3, size, size)
    assert found.network(torch.empty(1, 3, size, size, device="meta")).ndim == 2


def test_timm_features_equal_timms_own(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = timm.create_model("test_vit", num_classes=5).eval()
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    found = backbone("timm:test_vit", tmp_path / "vit.pth")
    images = torch.rand(2, 3, 160, 160)
    with torch.inference_mode():
        expected = theirs.forward_head(theirs.forward_features(images), pre_logits=True)
        np.testing.assert_allclose(found.network(images), expected, rtol=1e-4, atol=1e-5)
    assert found.transform(Image.new("RGB", (300, 200))).shape == (3, 160, 160)
    with pytest.raises(ConfigError, match=r"--weights: must be given for timm: .*huggingface.co/timm/test_vit"):
        backbone("timm:test_vit", None)
    with pytest.raises(ConfigError, match=r"timm has no 'test_vitt' \(did you mean test_vit\?\)"):
        backbone("timm:test_vitt", None)
    with pytest.raises(DataError, match=r"vit.pth: does not fit the network: it lacks"):
        backbone("timm:test_resnet", tmp_path / "vit.pth")


def test_missing_weights_name_the_file_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(DataError, match=r"--weights: .*no network.* Put resnet18-f37072fd.pth there .*or name another"):
        backbone("torchvision:resnet18", None)


def test_without_timm_the_message_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"--model: timm is not installed: pip install 'slnlab\[timm\]'"):
        backbone("timm:test_vit", None)

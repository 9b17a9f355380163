"""The backbones against descriptions written from their definitions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slnlab.config import check, compose
from slnlab.errors import ConfigError
from slnlab.models import PreActResNet18, ResNet18, ResNet34, SmallCNN, StridedCNN, WideResNet
from slnlab.record.metrics import read_metrics
from slnlab.record.result import Result


def layers_in_order(network: nn.Module, images: Tensor) -> list[tuple[object, ...]]:
    """Every layer that has weights or pools, as it runs, with its setting and the height of its output."""
    seen: list[tuple[object, ...]] = []

    def note(module: nn.Module, _inputs: object, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            assert module.padding == (module.kernel_size[0] // 2,) * 2
            assert module.dilation == (1, 1)
            assert module.groups == 1
            setting = (module.in_channels, module.out_channels, module.kernel_size[0], module.stride[0])
            seen.append(("conv", *setting, module.bias is not None, output.shape[2]))
        elif isinstance(module, nn.BatchNorm2d):
            assert module.affine
            assert module.track_running_stats
            seen.append(("bn", module.num_features, module.momentum, output.shape[2]))
        elif isinstance(module, nn.MaxPool2d):
            seen.append(("max", module.kernel_size, output.shape[2]))
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            seen.append(("mean", output.shape[2]))
        elif isinstance(module, nn.Linear):
            seen.append(("linear", module.in_features, module.out_features, module.bias is not None))
        elif not isinstance(module, (nn.ReLU, nn.Identity, nn.Sequential)) and not list(module.children()):
            seen.append((type(module).__name__,))  # nothing else may be in there (dropout, say)

    handles = [module.register_forward_hook(note) for module in network.modules()]
    network(images)
    for handle in handles:
        handle.remove()
    return seen


def wide_resnet_by_definition(depth: int, k: int, classes: int, height: int) -> list[tuple[object, ...]]:
    """WRN of methods.md section 1, layer by layer in the order of running."""
    described: list[tuple[object, ...]] = [("conv", 3, 16, 3, 1, True, height)]
    before = 16
    for stage, after in enumerate((16 * k, 32 * k, 64 * k)):
        for block in range((depth - 4) // 6):
            stride = 2 if stage > 0 and block == 0 else 1
            described.append(("bn", before, 0.1, height))
            described.append(("conv", before, after, 3, 1, True, height))
            described.append(("bn", after, 0.1, height))
            height //= stride
            described.append(("conv", after, after, 3, stride, True, height))
            if stride != 1 or before != after:
                described.append(("conv", before, after, 1, stride, True, height))
            before = after
    return [*described, ("bn", before, 0.9, height), ("mean", 1), ("linear", before, classes, True)]


@pytest.mark.parametrize(("classes", "count"), [(10, 1_469_642), (100, 1_481_252)])
def test_wide_resnet_has_the_parameters_of_the_tables(classes: int, count: int) -> None:
    assert sum(parameter.numel() for parameter in WideResNet(num_classes=classes).parameters()) == count


@pytest.mark.parametrize(("depth", "k", "classes"), [(28, 2, 10), (10, 1, 7), (16, 3, 100)])
def test_wide_resnet_layer_by_layer(depth: int, k: int, classes: int) -> None:
    network = WideResNet(3, classes, depth=depth, widen_factor=k).eval()
    expected = wide_resnet_by_definition(depth, k, classes, height=32)
    assert layers_in_order(network, torch.randn(1, 3, 32, 32)) == expected


def test_wide_resnet_28_2_has_28_convolutions_and_three_shortcuts() -> None:
    convolutions = [module for module in WideResNet().modules() if isinstance(module, nn.Conv2d)]
    shortcuts = [(c.in_channels, c.out_channels, c.stride[0]) for c in convolutions if c.kernel_size == (1, 1)]
    assert len(convolutions) == 1 + 24 + 3
    assert shortcuts == [(16, 32, 1), (32, 64, 2), (64, 128, 2)]


def functional_block(x: Tensor, weights: dict[str, Tensor], stride: int, training: bool) -> Tensor:
    def norm(inputs: Tensor, name: str) -> Tensor:
        mean, var = weights[f"{name}.running_mean"].clone(), weights[f"{name}.running_var"].clone()
        return F.batch_norm(inputs, mean, var, weights[f"{name}.weight"], weights[f"{name}.bias"], training, 0.1, 1e-5)

    hidden = F.conv2d(F.relu(norm(x, "bn1")), weights["conv1.weight"], weights["conv1.bias"], stride=1, padding=1)
    hidden = F.relu(norm(hidden, "bn2"))
    hidden = F.conv2d(hidden, weights["conv2.weight"], weights["conv2.bias"], stride=stride, padding=1)
    if "shortcut.weight" in weights:
        x = F.conv2d(x, weights["shortcut.weight"], weights["shortcut.bias"], stride=stride)
    return x + hidden


@pytest.mark.parametrize("training", [True, False])
def test_wide_resnet_forward_by_hand(training: bool) -> None:
    """The whole network once more, by torch.nn.functional on its state dict."""
    torch.manual_seed(0)
    network = WideResNet(3, 5, depth=10, widen_factor=2).double()
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():  # so that no scale is 1, no shift 0, no statistic at its start
                tensor.copy_(torch.rand_like(tensor) - (0.3 if tensor.ndim > 1 else -0.5)).mul_(0.3)
    network.train(training)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images = torch.randn(4, 3, 12, 12, dtype=torch.float64)
    x = F.conv2d(images, state["conv.weight"], state["conv.bias"], padding=1)
    for stage in range(3):
        prefix = f"stages.{stage}.0."
        weights = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
        assert "shortcut.weight" in weights
        x = functional_block(x, weights, stride=1 if stage == 0 else 2, training=training)
    mean, var = state["bn.running_mean"], state["bn.running_var"]
    x = F.relu(F.batch_norm(x, mean, var, state["bn.weight"], state["bn.bias"], training, 0.9, 1e-5))
    logits = F.linear(x.mean((2, 3)), state["classifier.weight"], state["classifier.bias"])
    torch.testing.assert_close(network(images), logits, rtol=1e-10, atol=1e-10)
    # F.batch_norm moved `mean` with momentum 0.9, as the network must have.
    torch.testing.assert_close(network.bn.running_mean, mean, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(network.bn.running_var, var, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("block_at", [(0, 0), (1, 0), (2, 0), (1, 1)])
def test_shortcut_acts_on_the_raw_input(block_at: tuple[int, int]) -> None:
    """With a residual of zero a block is its shortcut of x itself, neither normalised nor rectified."""
    torch.manual_seed(1)
    block = WideResNet().stages[block_at[0]][block_at[1]]
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)
    x = 3 * torch.randn(2, block.conv1.in_channels, 8, 8) - 2
    expected = x
    if block_at[1] == 0:
        stride = 1 if block_at[0] == 0 else 2
        expected = F.conv2d(x, block.shortcut.weight, block.shortcut.bias, stride=stride)
    torch.testing.assert_close(block(x.clone()), expected, rtol=0, atol=0)


def test_wide_resnet_starts_from_pytorchs_default_initialisation() -> None:
    """Uniform in ±1/√fan_in for weights and biases; batch norms start as the identity."""
    torch.manual_seed(2)
    for module in WideResNet().modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            bound = module.weight[0].numel() ** -0.5
            for tensor in (module.weight, module.bias):
                assert tensor.abs().max() <= bound
            if module.weight.numel() > 1000:
                assert module.weight.abs().max() > 0.98 * bound
                assert abs(module.weight.std() / (bound / 3**0.5) - 1) < 0.06
        elif isinstance(module, nn.BatchNorm2d):
            assert bool((module.weight == 1).all())
            assert bool((module.bias == 0).all())


@pytest.mark.parametrize("depth", [4, 27, 29, 0, -2])
def test_wide_resnet_refuses_a_depth_that_is_not_6n_plus_4(depth: int) -> None:
    with pytest.raises(ConfigError, match="depth"):
        WideResNet(depth=depth)


def test_small_cnn_layer_by_layer() -> None:
    network = SmallCNN(1, 10).eval()
    assert layers_in_order(network, torch.randn(1, 1, 28, 28)) == [
        ("conv", 1, 32, 3, 1, False, 28),
        ("bn", 32, 0.1, 28),
        ("conv", 32, 32, 3, 1, False, 28),
        ("bn", 32, 0.1, 28),
        ("max", 2, 14),
        ("conv", 32, 64, 3, 1, False, 14),
        ("bn", 64, 0.1, 14),
        ("max", 2, 7),
        ("conv", 64, 64, 3, 1, False, 7),
        ("bn", 64, 0.1, 7),
        ("mean", 1),
        ("linear", 64, 10, True),
    ]
    assert sum(isinstance(module, nn.ReLU) for module in network.modules()) == 4
    # 9·(1·32 + 32·32 + 32·64 + 64·64) weights, 2·(32 + 32 + 64 + 64) of batch norm, 64·10 + 10.
    assert sum(parameter.numel() for parameter in network.parameters()) == 64_800 + 384 + 650


def test_small_cnn_forward_by_hand() -> None:
    torch.manual_seed(3)
    network = SmallCNN(2, 3, widths=(3, 4, 5, 6)).double()
    images = torch.randn(5, 2, 9, 8, dtype=torch.float64)
    state = list(network.features.state_dict().values())
    x = images
    for layer in range(4):
        weight, scale, shift = state[6 * layer : 6 * layer + 3]
        x = F.relu(F.batch_norm(F.conv2d(x, weight, padding=1), None, None, scale, shift, training=True))
        if layer in (1, 2):
            x = F.max_pool2d(x, 2)
    logits = F.linear(x.mean((2, 3)), network.classifier.weight, network.classifier.bias)
    torch.testing.assert_close(network(images), logits, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "settings",
    [{"widths": (8, 8, 8)}, {"widths": (8, 8, 8, 0)}, {"in_channels": 0}, {"num_classes": 0}],
)
def test_small_cnn_refuses_impossible_sizes(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="SmallCNN"):
        SmallCNN(**{"in_channels": 1, "num_classes": 10, **settings})


def resnet_by_definition(blocks: list[int], classes: int, height: int) -> list[tuple[object, ...]]:
    """He et al. 2016 with the stem for small images, layer by layer in the order of running."""
    described: list[tuple[object, ...]] = [("conv", 3, 64, 3, 1, False, height), ("bn", 64, 0.1, height)]
    before = 64
    for stage, count in enumerate(blocks):
        after = 64 * 2**stage
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            height //= stride
            described += [("conv", before, after, 3, stride, False, height), ("bn", after, 0.1, height)]
            described += [("conv", after, after, 3, 1, False, height), ("bn", after, 0.1, height)]
            if before != after:
                described += [("conv", before, after, 1, stride, False, height), ("bn", after, 0.1, height)]
            before = after
    return [*described, ("mean", 1), ("linear", before, classes, True)]


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (ResNet18, 11_173_962),
        (ResNet34, 21_282_122),
        (lambda c, k: PreActResNet18(c, k, form="kuangliu"), 11_171_146),
        (lambda c, k: PreActResNet18(c, k, form="dividemix"), 11_171_146 + 2 * 64),
        (PreActResNet18, 11_171_146 + 2 * 64),
    ],
)
def test_cifar_networks_have_the_published_parameter_counts(make: Callable[[int, int], nn.Module], count: int) -> None:
    assert sum(parameter.numel() for parameter in make(3, 10).parameters()) == count
    assert sum(parameter.numel() for parameter in make(3, 100).parameters()) == count + 90 * 513


@pytest.mark.parametrize(("make", "blocks"), [(ResNet18, [2, 2, 2, 2]), (ResNet34, [3, 4, 6, 3])])
def test_resnet_for_small_images_layer_by_layer(make: Callable[[int, int], nn.Module], blocks: list[int]) -> None:
    network = make(3, 7).eval()
    assert layers_in_order(network, torch.randn(1, 3, 32, 32)) == resnet_by_definition(blocks, 7, height=32)


def test_the_first_convolution_is_initialised_as_torchvisions() -> None:
    """Normal with variance 2/fan_out, fan_out = 64 · 3 · 3, whatever the number of channels."""
    torch.manual_seed(4)
    weight = ResNet18(30, 10).conv1.weight
    assert abs(weight.std() / (2 / 576) ** 0.5 - 1) < 0.03
    assert abs(weight.mean()) < 0.002


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("form", ["dividemix", "kuangliu"])
def test_preact_resnet_forward_by_hand(form: str, training: bool) -> None:
    """The whole network once more, by torch.nn.functional on its parameters and buffers in the order of definition."""
    torch.manual_seed(5)
    network = PreActResNet18(2, 5, form=form).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.ndim == 1:  # so that no scale is 1, no shift 0, no statistic at its start
                tensor.copy_(0.5 + torch.rand_like(tensor))
    network.train(training)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def activated(x: Tensor, name: str) -> Tensor:
        of = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.relu(F.batch_norm(x, *of, training, 0.1, 1e-5))

    images = torch.randn(3, 2, 16, 16, dtype=torch.float64)
    x = F.conv2d(images, state["stem.0.weight"], padding=1)
    if form == "dividemix":
        x = activated(x, "stem.1")
    for stage in range(4):
        for block in range(2):
            name, stride = f"stages.{stage}.{block}", 2 if stage and not block else 1
            a = activated(x, f"{name}.bn1")
            if stride == 2:
                shortcut = F.conv2d(a, state[f"{name}.shortcut.weight"], stride=2)
            else:
                shortcut = a if form == "dividemix" else x
            hidden = activated(F.conv2d(a, state[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn2")
            x = shortcut + F.conv2d(hidden, state[f"{name}.conv2.weight"], padding=1)
    assert x.shape == (3, 512, 2, 2)
    logits = F.linear(x.mean((2, 3)), state["classifier.weight"], state["classifier.bias"])
    torch.testing.assert_close(network(images), logits, rtol=1e-9, atol=1e-9)


def test_preact_resnet_refuses_an_unknown_form() -> None:
    with pytest.raises(ConfigError, match="form = 'he'"):
        PreActResNet18(3, 10, form="he")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"model\.form: 'he' .*'dividemix' or 'kuangliu'"):
        check(compose(["model=preact_resnet18", "model.form=he"]))


@pytest.mark.parametrize("make", [PreActResNet18, ResNet18, ResNet34])
@pytest.mark.parametrize("sizes", [(0, 10), (3, 0)])
def test_residual_networks_refuse_impossible_sizes(make: Callable[..., nn.Module], sizes: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"each must be at least 1"):
        make(*sizes)


@pytest.mark.parametrize("model", ["preact_resnet18", "resnet18"])
def test_every_model_learns_in_a_run(tiny_run: Callable[..., tuple[Result, Path]], model: str) -> None:
    """Sixty digits of 8x8 pixels and one channel, with correct labels; chance is 10 %."""
    options = ["method=ce", "noise=none", "data.train_size=60", "data.batch_size=20", "data.test=false"]
    _, path = tiny_run(f"model={model}", *options, "optimizer.lr=0.005", "trainer.max_epochs=6")
    first, *_, last = read_metrics(path / "metrics.csv")
    assert last["train/accuracy"] > 0.5
    assert last["train/loss"] < 0.7 * first["train/loss"]


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: PreActResNet18(1, 10), (1, 8, 8)),
        (lambda: PreActResNet18(1, 10, form="kuangliu"), (1, 28, 28)),
        (lambda: PreActResNet18(3, 10), (3, 32, 32)),
        (lambda: ResNet18(1, 10), (1, 8, 8)),
        (lambda: ResNet18(1, 10), (1, 28, 28)),
        (lambda: ResNet34(1, 10), (1, 28, 28)),
        (lambda: ResNet34(3, 10), (3, 32, 20)),
        (lambda: SmallCNN(1, 10), (1, 4, 4)),
        (lambda: SmallCNN(1, 10), (1, 8, 8)),
        (lambda: SmallCNN(1, 10), (1, 28, 28)),
        (lambda: SmallCNN(3, 10, widths=[8, 8, 16, 16]), (3, 32, 20)),
        (lambda: WideResNet(1, 10), (1, 8, 8)),
        (lambda: WideResNet(1, 10), (1, 28, 28)),
        (lambda: WideResNet(3, 10), (3, 32, 32)),
    ],
)
def test_every_image_size_gives_logits_and_gradients(
    make: Callable[[], nn.Module], shape: tuple[int, int, int]
) -> None:
    network = make()
    logits = network(torch.randn(2, *shape))
    assert logits.shape == (2, 10)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(bool(parameter.grad.any()) for parameter in network.parameters()), "and none is nothing but zeros"


def test_strided_cnn_halves_the_image_with_each_convolution() -> None:
    network = StridedCNN(in_channels=3, num_classes=10, image_size=28).eval()
    assert layers_in_order(network, torch.zeros(2, 3, 28, 28)) == [
        ("conv", 3, 32, 3, 2, False, 14),
        ("bn", 32, 0.1, 14),
        ("conv", 32, 64, 3, 2, False, 7),
        ("bn", 64, 0.1, 7),
        ("linear", 64 * 7 * 7, 256, True),
        ("linear", 256, 10, True),
    ]
    assert StridedCNN(1, 2, image_size=5, widths=(4,), hidden=3)(torch.zeros(2, 1, 5, 5)).shape == (2, 2)
    with pytest.raises(ConfigError, match="at least one width"):
        StridedCNN(1, 2, image_size=5, widths=())

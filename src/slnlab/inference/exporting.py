"""Export of a trained model for other programs. Its predictions are checked before the file is written."""

from __future__ import annotations

import copy
import io
import json
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from slnlab.errors import DataError, SlnlabError
from slnlab.inference.preprocessing import Probabilities
from slnlab.inference.trained_run import TrainedRun
from slnlab.methods.ensemble import Ensemble
from slnlab.storage.writing import replacing

TOLERANCE = 1e-5
"""Largest allowed difference of a probability from the run's own. Other programs sum in another order."""


class Format(NamedTuple):
    """A file format: writing a model, and reading it as another program would.

    Args:
        write: (model, example images) → bytes of the file.
        read: (bytes, model) → function from images to probabilities.
        output: what the exported function returns; None: the file holds only weights.
    """

    write: Callable[[Probabilities, Tensor], bytes]
    read: Callable[[bytes, Probabilities], Callable[[Tensor], Tensor]]
    output: str | None = "probabilities"


def export(run: TrainedRun, format: str, path: Path) -> float:
    """Write the run's model to `path`, and a description of its input and output to `<path>.json`.

    Args:
        run: on the CPU.
        format: a name in `FORMATS`.
        path: of the file; its folder must exist.

    Returns:
        Largest difference of a probability from the run's own, on random images.

    Raises:
        SlnlabError: a package of the extra is missing, the format does not support the network, or the probabilities
            differ by more than `TOLERANCE`.
        DataError: a file cannot be written.
    """
    kind, model = FORMATS[format], copy.deepcopy(run.probabilities).cpu().eval().requires_grad_(False)
    if path.is_dir() or not path.parent.is_dir():
        reason = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise DataError(f"{path}: cannot be written: {reason}")
    images = _examples(run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations of TorchScript and inside PyTorch
        try:
            written = kind.write(model, images[:2])
        except SlnlabError:
            raise
        except Exception as error:  # exporters raise many kinds of error for an unknown operation
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            name = type(run.model).__name__
            raise SlnlabError(f"--format {format}: {name} cannot be written in this format ({reason})") from error
        function = kind.read(written, model)
        expected = torch.from_numpy(run.predict(images).probabilities)
        # Batch sizes unlike the example's; a single image breaks most often.
        found = torch.cat([function(images[:4]), function(images[4:])])
    difference = float((found - expected).abs().max())
    if not difference <= TOLERANCE:  # catches NaN too
        raise SlnlabError(
            f"--format {format}: the written model's probabilities differ from the run's by {difference:.2g}, and "
            f"{TOLERANCE:g} is allowed; nothing was written"
        )
    seen = _input(kind) if run.preprocessing.resize else _vectors(kind)
    about = {**description(run), "format": format, "input": seen, "output": _output(kind)}
    about["largest_difference"] = difference
    with replacing(path) as file:
        file.write(written)
    with replacing(path.with_name(f"{path.name}.json")) as file:
        file.write((json.dumps(about, indent=2) + "\n").encode())
    return difference


def _examples(run: TrainedRun) -> Tensor:
    """Five random inputs: uint8 (5, channels, *resize), or vectors float32 (5, D) with the training statistics."""
    generator, channels = torch.Generator().manual_seed(0), len(run.preprocessing.mean)
    if run.preprocessing.resize is None:
        drawn = torch.randn(5, channels, generator=generator)
        return drawn * torch.tensor(run.preprocessing.std) + torch.tensor(run.preprocessing.mean)
    shape = (5, channels, *run.preprocessing.resize)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def description(run: TrainedRun) -> dict[str, Any]:
    """The description of the model for other programs, as plain JSON."""
    members = len(run.model.members) if isinstance(run.model, Ensemble) else 1
    return {
        "run": str(run.directory),
        "weights": run.weights,
        "label": run.result.rows[run.weights].title,
        "network": OmegaConf.to_container(run.config.model, resolve=True),
        "members": members,
        "classes": run.classes,
        "preprocessing": run.preprocessing.model_dump(),
        "slnlab": metadata.version("slnlab"),
        "torch": torch.__version__,
    }


def _input(kind: Format) -> str:
    if kind.output is None:
        return (
            "float32 (N, channels, *crop): the image resized, its middle cropped, pixels divided by 255, mean "
            "subtracted, divided by std"
        )
    return (
        "uint8 (N, channels, *resize), named images: the image resized; the model itself crops and normalises, so "
        "mean, std and crop are only for information"
    )


def _vectors(kind: Format) -> str:
    if kind.output is None:
        return "float32 (N, D): the vector, mean subtracted, divided by std"
    return "float32 (N, D), named images: the vector; the model itself standardises it"


def _output(kind: Format) -> str:
    if kind.output is None:
        return "logits (N, classes); the mean over the members of an ensemble (weights members.0.*, members.1.*, …)"
    return "float32 (N, classes), named probabilities; rows sum to 1"


# Formats


def _write_weights(model: Probabilities, _: Tensor) -> bytes:
    buffer = io.BytesIO()
    state = model.network.state_dict()
    # Copies, as torch.save stores the whole of which a tensor is a part.
    torch.save({name: tensor.contiguous().clone() for name, tensor in state.items()}, buffer)
    return buffer.getvalue()


def _read_weights(written: bytes, model: Probabilities) -> Callable[[Tensor], Tensor]:
    network = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in (*network.network.parameters(), *network.network.buffers()):
            tensor.zero_()  # only the weights in the file count
    network.network.load_state_dict(torch.load(io.BytesIO(written), weights_only=True))
    return network


class _OnlyLikeTheExample(nn.Module):
    """A traced model that refuses another type or size, as the other formats do: a trace would crop it in silence."""

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.model, self.dtype, self.shape = model, example.dtype, list(example.shape[1:])
        self.refusal = f"images: must be {str(example.dtype).removeprefix('torch.')} (N, {str(self.shape)[1:-1]})"

    def forward(self, images: Tensor) -> Tensor:
        if images.dtype != self.dtype or list(images.shape[1:]) != self.shape:
            raise ValueError(self.refusal)
        probabilities: Tensor = self.model(images)
        return probabilities


def _write_torchscript(model: Probabilities, example: Tensor) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(_OnlyLikeTheExample(torch.jit.trace(model, example), example)), buffer)
    return buffer.getvalue()


def _read_torchscript(written: bytes, _: Probabilities) -> Callable[[Tensor], Tensor]:
    loaded: nn.Module = torch.jit.load(io.BytesIO(written))
    return loaded


def _program(model: Probabilities, example: Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))


def _write_pt2(model: Probabilities, example: Tensor) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(_program(model, example), buffer)
    return buffer.getvalue()


def _read_pt2(written: bytes, _: Probabilities) -> Callable[[Tensor], Tensor]:
    return torch.export.load(io.BytesIO(written)).module()


def _write_onnx(model: Probabilities, example: Tensor) -> bytes:
    _onnxruntime()
    program = _program(model, example)
    made = torch.onnx.export(
        program,
        (example,),
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=["probabilities"],
    )
    assert made is not None
    serialised: bytes = made.model_proto.SerializeToString()
    return serialised


def _read_onnx(written: bytes, _: Probabilities) -> Callable[[Tensor], Tensor]:
    session = _onnxruntime().InferenceSession(written, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["probabilities"], {"images": images.numpy()})[0])


def _onnxruntime() -> Any:
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise SlnlabError(
            f"--format onnx needs the extra: pip install 'slnlab[export]' ({error.name} is missing)"
        ) from None
    return onnxruntime


FORMATS = {
    "torch": Format(_write_weights, _read_weights, output=None),
    "torchscript": Format(_write_torchscript, _read_torchscript),
    "pt2": Format(_write_pt2, _read_pt2),
    "onnx": Format(_write_onnx, _read_onnx),
}

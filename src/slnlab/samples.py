"""The sample table: everything remembered about each training sample.

The table has one row per training sample, in data set order. A batch is `(index, image)`; the index finds the rest
here. The table lives on the training device. It is no buffer of a module, because a momentum model must not average
it. Its method saves it once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from slnlab.errors import ConfigError, DataError
from slnlab.processes.distributed import gather

_TRUTH = ("true", "wrong")


def margins(logits: Tensor, given: Tensor) -> Tensor:
    """Margins of the given labels: their logits minus the largest other logit, below 0 where another is predicted.

    Args:
        logits: (B, C), C at least 2.
        given: given labels (B,), int64.

    Returns:
        (B,).
    """
    place = given.unsqueeze(1)
    return logits.gather(1, place).squeeze(1) - logits.scatter(1, place, -torch.inf).amax(1)


def first_places(rows: Tensor, size: int) -> Tensor:
    """The first place of each row among `rows` (M,), integers in [0, size): (M,) int64."""
    places = torch.arange(len(rows), device=rows.device)
    return places.new_full((size,), len(rows)).scatter_reduce_(0, rows, places, "amin")[rows]


class SampleTable:
    """Named columns over the training samples.

    These columns always exist:

    - `given` (N,) int64: the given labels; they never change.
    - `predicted` (N,) int64 and `weight` (N,) float32: the target of sample i is
      `weight · onehot(given) + (1 − weight) · onehot(predicted)`. At first weight = 1.

    `watch` adds columns in which `observe` writes what a network says about a sample:

    - `loss` (N,) float32: cross entropy against the given label, in nats.
    - `prediction` (N,) int64: predicted label.
    - `margin` (N,) float32: see `margins`.
    - `observed` (N,) bool: True for samples with an observation since the column was cleared.

    The columns `true` (N,) int64 and `wrong` (N,) bool, if known, serve diagnostics only and are not saved. Soft
    corrections add `soft` (N, C), which replaces onehot(predicted). `sample_weight` (N,) float32 exists if the labels
    have weights. Methods multiply losses by it; neither the table nor an objective does, so a loop of your own must.
    Methods add their own columns.

    Args:
        given: given labels, shape (N,), integers in [0, num_classes).
        num_classes: C.
        true: true labels, shape (N,), if known.
        wrong: mask of samples with a label that does not describe their image, shape (N,), if known.
        sample_weight: weights in the loss, in [0, 1], shape (N,); None: all 1, without a column.
        repeats: a batch may hold copies of a sample; see `write`.

    Raises:
        ConfigError: a column is no tensor, shapes do not match, a label lies outside the classes, or a weight outside
            [0, 1].
    """

    def __init__(
        self,
        given: Tensor,
        num_classes: int,
        *,
        true: Tensor | None = None,
        wrong: Tensor | None = None,
        sample_weight: Tensor | None = None,
        repeats: bool = False,
    ) -> None:
        columns = {"given labels": given, "`true`": true, "`wrong`": wrong, "`sample_weight`": sample_weight}
        for title, column in columns.items():
            if column is not None and not isinstance(column, Tensor):
                raise ConfigError(f"{title} must be a tensor, not {type(column).__name__}; use torch.as_tensor")
        if given.ndim != 1 or given.is_floating_point():
            raise ConfigError(f"given labels must be integers of shape (N,), not {given.dtype} {tuple(given.shape)}")
        if given.numel() and not 0 <= int(given.min()) <= int(given.max()) < num_classes:
            raise ConfigError(f"given labels must lie in [0, {num_classes})")
        self.num_classes, self.repeats = num_classes, repeats
        self.columns: dict[str, Tensor] = {
            "given": given.long().clone(),
            "predicted": given.long().clone(),
            "weight": torch.ones(len(given), device=given.device),
        }
        for name, column in (("true", true), ("wrong", wrong), ("sample_weight", sample_weight)):
            if column is not None:
                if column.shape != given.shape:
                    raise ConfigError(
                        f"`{name}` has shape {tuple(column.shape)}, the given labels {tuple(given.shape)}"
                    )
                self.columns[name] = column.clone()
        if sample_weight is not None and not bool(((sample_weight >= 0) & (sample_weight <= 1)).all()):  # NaN too
            raise ConfigError("`sample_weight` must lie in [0, 1]")
        self._added: list[str] = []
        self.corrected = False
        """True if a target may differ from the given label: after `correct`."""

    def __len__(self) -> int:
        return len(self.columns["given"])

    def __getitem__(self, name: str) -> Tensor:
        try:
            return self.columns[name]
        except KeyError:
            known = ", ".join(self.columns)
            raise KeyError(f"the sample table has no column {name!r}; add it in `setup`. It has {known}") from None

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    @property
    def device(self) -> torch.device:
        return self.columns["given"].device

    def to(self, device: torch.device | str) -> SampleTable:
        """Move every column to a device; return itself."""
        self.columns = {name: column.to(device) for name, column in self.columns.items()}
        return self

    def add(
        self, name: str, fill: float = 0.0, shape: tuple[int, ...] = (), dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Add and return a column `(N, *shape)` filled with `fill`; an existing column stays unchanged."""
        if name not in self.columns:
            self.columns[name] = torch.full((len(self), *shape), fill, dtype=dtype, device=self.device)
            self._added.append(name)
        return self.columns[name]

    def write(self, index: Tensor, **values: Tensor) -> None:
        """Write columns of the samples of a batch. Of copies of a sample (`repeats`), the first is written.

        Args:
            index: rows (B,).
            values: column → (B, …).
        """
        if self.repeats:
            first = first_places(index, len(self))
            values = {name: value[first] for name, value in values.items()}
        for name, value in values.items():
            self[name][index] = value

    def share(self, index: Tensor) -> None:
        """Copy the rows of added columns written by other processes.

        Args:
            index: rows (M,) written by this process. Each row has one writer; with `repeats` the first one counts.
        """
        self.write(gather(index), **{name: gather(self[name][index]) for name in self._added})

    def watch(self) -> None:
        """Add the columns of `observe`."""
        self.add("loss")
        self.add("prediction", dtype=torch.int64)
        self.add("margin")
        self.add("observed", dtype=torch.bool)

    @torch.no_grad()
    def observe(self, index: Tensor, logits: Tensor) -> None:
        """Write loss, prediction and margin of samples, after `watch`.

        The loss is the cross entropy against the *given* label, without SLN or correction, so that methods compare.

        Args:
            index: rows (B,).
            logits: (B, C) of a network, or logarithms of its probabilities.
        """
        logits, given = logits.detach().float(), self["given"][index]
        loss = cross_entropy(logits, given, reduction="none")
        self.note(index, loss, logits.argmax(1), margins(logits, given))

    def note(self, index: Tensor, loss: Tensor, prediction: Tensor, margin: Tensor) -> None:
        """Write the columns of `observe` for the rows `index` (B,)."""
        self.write(index, loss=loss, prediction=prediction, margin=margin)
        self["observed"].index_fill_(0, index, True)

    def targets(self, index: Tensor) -> Tensor:
        """Return the unperturbed targets of samples (B,): (B, C) float32, rows sum to one."""
        given = self["given"][index].unsqueeze(1)
        if not self.corrected:
            return torch.zeros(len(index), self.num_classes, device=given.device).scatter_(1, given, 1.0)
        weight = self["weight"][index].unsqueeze(1)
        if "soft" in self:
            targets = (1 - weight) * self["soft"][index].float()
        else:
            targets = weight.new_zeros(len(index), self.num_classes)
            targets.scatter_(1, self["predicted"][index].unsqueeze(1), 1 - weight)
        return targets.scatter_add_(1, given, weight)

    def correct(self, index: Tensor, weight: Tensor, prediction: Tensor) -> None:
        """Replace the targets of samples by `weight · onehot(given) + (1 − weight) · prediction`.

        Args:
            index: rows, shape (M,).
            weight: weight of the given label, shape (M,), in [0, 1].
            prediction: predicted labels (M,) of an integer type, or class probabilities (M, C).
        """
        self.corrected = True
        self["weight"][index] = weight.to(self["weight"])
        if prediction.ndim == 1:
            self["predicted"][index] = prediction.to(self["predicted"])
            if "soft" not in self:
                return
            prediction = one_hot(prediction.long(), self.num_classes)
        elif "soft" not in self:  # the other rows keep their targets
            self.columns["soft"] = one_hot(self["predicted"], self.num_classes).float()
        self["soft"][index] = prediction.to(self["soft"])

    def state_dict(self, copies: bool = True) -> dict[str, Any]:
        """Return all columns but `true` and `wrong`, on the CPU. The given labels identify the table.

        Args:
            copies: False shares memory where the table is on the CPU, for a state that is written at once.
        """
        saved = {name: column for name, column in self.columns.items() if name not in _TRUTH}
        return {name: column.detach().to("cpu", copy=copies) for name, column in saved.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a saved state.

        Raises:
            DataError: the state belongs to other given labels.
        """
        if "given" not in state or not torch.equal(state["given"], self["given"].cpu()):
            raise DataError("the checkpoint's sample table holds other given labels than this run's data and noise")
        if "soft" not in state:
            self.columns.pop("soft", None)
        self.columns.update({name: column.to(self.device, copy=True) for name, column in state.items()})
        self.corrected = bool((self["weight"] != 1).any())

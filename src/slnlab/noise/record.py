"""The noise record: the label noise of a data set as one object to store and compare."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slnlab.errors import ConfigError, DataError
from slnlab.noise._check import check_index, check_integer, check_labels, check_num_classes, check_rate
from slnlab.storage.writing import replacing

__all__ = ["NoiseRecord"]

_FORMAT = "slnlab.noise.record/1"
_ARRAYS = ("true", "given", "replaced", "donor")
_META = ("num_classes", "name", "rate", "seed", "donor_source", "options")


def _no_samples() -> Tensor:
    return torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True, eq=False, kw_only=True)
class NoiseRecord:
    """True labels, given labels, and replaced images (open-set noise).

    Tensors are copied at construction; treat them as read-only. Replacements are sorted by ``replaced`` together with
    their donors, so that the hash does not depend on their order. Compare records by ``hash``.

    Raises:
        ConfigError: a field of another type, shape or range; ``given`` and ``true``, or ``replaced`` and ``donor``,
            of different lengths; an image replaced twice; or replaced images without a ``donor_source``.
    """

    true: Tensor
    """True labels, (N,) int64, in [0, num_classes), N >= 1."""

    given: Tensor
    """Given labels, (N,) int64, in [0, num_classes)."""

    replaced: Tensor = field(default_factory=_no_samples)
    """Samples with a replaced image, (M,) int64, in [0, N), each once; empty unless open-set."""

    donor: Tensor = field(default_factory=_no_samples)
    """Replacing samples of the donor data set, in the order of ``replaced``, (M,) int64, not negative."""

    num_classes: int
    """C, at least 2."""

    name: str
    """The noise type, e.g. ``"symmetric"``."""

    rate: float
    """The nominal noise rate, in [0, 1); ``realised_rate`` is the measured one."""

    seed: int | None = None
    """The noise seed; None for noise without draws (from a file, instance-dependent, clean)."""

    donor_source: str | None = None
    """The donor data set, e.g. ``"cifar100/train"``; required if images were replaced."""

    options: str | None = None
    """Further options of the noise, such as its class map, as JSON; None: it has none, or they are unknown."""

    def __post_init__(self) -> None:
        num_classes = check_num_classes(self.num_classes)
        check_labels(self.true, num_classes, "true")
        check_labels(self.given, num_classes, "given")
        if len(self.given) != len(self.true):
            raise ConfigError(f"given: has {len(self.given)} samples, true has {len(self.true)}")
        order = self._check_replacements()
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError(f"name={self.name!r}: must be a non-empty string")
        if self.donor_source is not None and (not isinstance(self.donor_source, str) or not self.donor_source):
            raise ConfigError(f"donor_source={self.donor_source!r}: must be a non-empty string or None")
        if len(self.replaced) and self.donor_source is None:
            raise ConfigError("donor_source: must name the donor data set when images were replaced")
        seed = None if self.seed is None else check_integer(self.seed, "seed")

        for key, value in {
            "true": self.true.clone(),
            "given": self.given.clone(),
            "replaced": self.replaced[order],
            "donor": self.donor[order],
            "num_classes": num_classes,
            "rate": check_rate(self.rate, "rate"),
            "seed": seed,
        }.items():
            object.__setattr__(self, key, value)

    def _check_replacements(self) -> Tensor:
        """Return the order (M,) of ``replaced``."""
        check_index(self.replaced, "replaced")
        check_index(self.donor, "donor")
        if len(self.replaced) != len(self.donor):
            raise ConfigError(f"donor: has {len(self.donor)} entries, replaced has {len(self.replaced)}")
        ordered, order = self.replaced.sort()
        if len(ordered) and not 0 <= int(ordered[0]) <= int(ordered[-1]) < len(self.true):
            raise ConfigError(
                f"replaced: holds indices from {int(ordered[0])} to {int(ordered[-1])}; they must be in "
                f"[0, {len(self.true)})"
            )
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            raise ConfigError(f"replaced: sample {int(twice[0])} is replaced more than once")
        if len(self.donor) and int(self.donor.min()) < 0:
            raise ConfigError(f"donor: holds the negative index {int(self.donor.min())}")
        return order

    def first(self, size: int) -> NoiseRecord:
        """The record of the first `size` samples, in [1, N]."""
        here = self.replaced < size
        return replace(
            self,
            true=self.true[:size],
            given=self.given[:size],
            replaced=self.replaced[here],
            donor=self.donor[here],
        )

    @property
    def num_samples(self) -> int:
        """N."""
        return len(self.true)

    @property
    def wrong(self) -> Tensor:
        """Mask (N,) bool of samples with a changed label or a replaced image."""
        wrong = self.given != self.true
        wrong[self.replaced] = True
        return wrong

    @property
    def realised_rate(self) -> float:
        """The share of wrong samples, in [0, 1]."""
        return int(self.wrong.sum()) / self.num_samples

    @property
    def transition_matrix(self) -> Tensor:
        """T (C, C) float64, T[i, j] = P(given j | true i) from counts; rows sum to 1.

        A class without samples has the identity's row. Open-set noise changes no label, so its matrix is the
        identity; ``class_rates`` shows it.
        """
        size = self.num_classes
        pairs = torch.bincount(self.true * size + self.given, minlength=size * size)
        counts = pairs.reshape(size, size).double()
        totals = counts.sum(dim=1, keepdim=True)
        identity = torch.eye(size, dtype=torch.float64)
        return torch.where(totals > 0, counts / totals.clamp(min=1), identity)

    @property
    def class_rates(self) -> Tensor:
        """(C,) float64: the share of wrong samples in each *true* class; 0 for a class without samples."""
        totals = torch.bincount(self.true, minlength=self.num_classes)
        wrong = torch.bincount(self.true[self.wrong], minlength=self.num_classes)
        return wrong.double() / totals.clamp(min=1).double()

    @property
    def hash(self) -> str:
        """SHA-256 (64 hex digits) of the training labels and replacements. Equal hashes mean equal training data.

        The hashed bytes are ``b"slnlab.noise/1"``; then ``given``, ``replaced`` and ``donor``, each as its length
        (uint64) and its values (int64), all little-endian; then the length (uint64) and UTF-8 bytes of
        ``donor_source``, empty if nothing was replaced. They use no serialisation of torch or NumPy, so the hash is
        the same on every platform and with every version. Name, rate, seed and true labels do not enter.
        """
        source = (self.donor_source or "").encode() if len(self.replaced) else b""
        digest = hashlib.sha256(b"slnlab.noise/1")
        for values in (self.given, self.replaced, self.donor):
            digest.update(_encode(values))
        digest.update(struct.pack("<Q", len(source)) + source)
        return digest.hexdigest()

    def summary(self) -> dict[str, Any]:
        """Return the entry of a run's ``result.json``: numbers, strings, lists and None."""
        return {
            "name": self.name,
            "rate": self.rate,
            "seed": self.seed,
            "realised_rate": self.realised_rate,
            "num_samples": self.num_samples,
            "num_wrong": int(self.wrong.sum()),
            "num_replaced": len(self.replaced),
            "class_rates": self.class_rates.tolist(),
            "transition_matrix": self.transition_matrix.tolist(),
            "hash": self.hash,
            "donor_source": self.donor_source,
            "options": self.options,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the record to ``path`` (.npz, compressed, without pickles). An existing file is replaced atomically.

        The file's bytes depend on the versions of NumPy and zlib, so compare ``hash``, not files.

        Raises:
            DataError: the file cannot be written.
        """
        meta = {
            "format": _FORMAT,
            "hash": self.hash,
            "true_hash": _digest(self.true),
            **{key: getattr(self, key) for key in _META},
        }
        arrays: dict[str, npt.NDArray[Any]] = {name: getattr(self, name).numpy().astype("<i8") for name in _ARRAYS}
        # JSON bytes, because the layout of a string array is NumPy's own.
        arrays["meta"] = np.frombuffer(json.dumps(meta, sort_keys=True).encode(), dtype=np.uint8)
        with replacing(Path(path)) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> NoiseRecord:
        """Read a saved record, and verify the stored hashes of labels and replacements.

        Raises:
            DataError: the file is missing, truncated, no noise record, of an unknown format, or does not match its
                hashes.
        """
        arrays, meta = _read(Path(path))
        if meta.get("format") != _FORMAT:
            raise DataError(f"{path}: has the format {meta.get('format')!r}, this version reads {_FORMAT!r}")
        meta.setdefault("options", None)  # earlier records lack them
        missing = [key for key in (*_META, "hash", "true_hash") if key not in meta]
        if missing:
            raise DataError(f"{path}: is no complete noise record, it lacks {', '.join(missing)}")
        try:
            record = cls(**{**arrays, **{key: meta[key] for key in _META}})
        except ConfigError as error:
            raise DataError(f"{path}: holds an impossible noise record: {error}") from error
        if record.hash != meta["hash"] or _digest(record.true) != meta["true_hash"]:
            raise DataError(f"{path}: was altered, its labels do not match the hash stored with them")
        return record


def _encode(values: Tensor) -> bytes:
    return struct.pack("<Q", len(values)) + values.numpy().astype("<i8").tobytes()


def _digest(values: Tensor) -> str:
    return hashlib.sha256(_encode(values)).hexdigest()


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        # np.load would also accept a bare array, or complain about pickles.
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise DataError(f"{path}: is no noise record, or truncated")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                members = {name: archive[name] for name in (*_ARRAYS, "meta")}
        meta = json.loads(members["meta"].astype(np.uint8).tobytes())
        arrays = {name: torch.from_numpy(members[name].astype(np.int64)) for name in _ARRAYS}
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except KeyError as error:
        raise DataError(f"{path}: is no noise record, it lacks a member: {error.args[0]}") from None
    except (OSError, EOFError, ValueError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as a noise record: {error}") from error
    if not isinstance(meta, dict):
        raise DataError(f"{path}: is no noise record")
    return arrays, meta

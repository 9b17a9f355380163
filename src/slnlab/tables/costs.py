"""Training costs of the methods as multiples of cross entropy's, measured side by side."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from slnlab.errors import DataError
from slnlab.record.result import Result


def read_costs(path: Path) -> dict[str, float]:
    """Read a file of `python -m benchmarks.methods --json`.

    Returns:
        Method → computing time of a run as a multiple of cross entropy's, > 0.

    Raises:
        DataError: the file cannot be read or has another format.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["cost"]
        costs = {str(method): float(ratio) for method, ratio in found.items()}
        if unlikely := {method: ratio for method, ratio in costs.items() if not 0 < ratio < float("inf")}:
            raise ValueError(f"costs are positive, not {unlikely}")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path}: not a file of `python -m benchmarks.methods --json` ({error!r})") from error
    return costs


UNKNOWN = "their methods have none in {}, or they start from other runs, add SAM, or last longer or shorter than CE"
"""Why `cost_of` is None, with the file of the costs."""


def cost_of(result: Result, costs: Mapping[str, float], epochs: Collection[int]) -> float | None:
    """The computing time of a run as a multiple of cross entropy's; None where the measured methods do not tell it.

    It is unknown if the run starts from others (`init.from`), perturbs its weights (`sam.rho`) beside another method,
    or has another length than cross entropy's. A run of cross entropy that it needs first (`transition=estimated`,
    `forget_rate=anchor_points`) counts as one more.

    Args:
        result: of the run.
        costs: see `read_costs`.
        epochs: of the runs of cross entropy that it is compared with; empty: there are none.
    """
    identity, cost = result.identity, costs.get(result.method)
    others = (identity.get("init") or {}).get("from")
    perturbed = (identity.get("sam") or {}).get("rho") and result.method != "sam"
    if cost is None or others or perturbed or (epochs and {*epochs} != {result.epochs}):
        return None
    method = identity.get("method") or {}
    return cost + (method.get("transition") == "estimated" or method.get("forget_rate") == "anchor_points")


def epochs_of_cross_entropy(results: Iterable[Result]) -> set[int]:
    """The epochs of the runs of cross entropy among these. With several lengths no cost compares."""
    return {result.epochs for result in results if result.method == "ce"}

"""Training costs of the methods as multiples of cross entropy's, measured side by side."""

from __future__ import annotations

import json
from pathlib import Path

from slnlab.errors import DataError


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

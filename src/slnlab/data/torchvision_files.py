"""Data sets read by torchvision, with one clear message for bad files."""

from __future__ import annotations

from typing import Any
from urllib.error import URLError

from slnlab.errors import DataError


def read(dataset: Any, root: str, *, train: bool, download: bool) -> Any:
    """Call `dataset(root, train, download)` of torchvision.

    Raises:
        DataError: files are missing, corrupt, or cannot be downloaded. The message names the directory and the remedy.
    """
    name = dataset.__name__
    try:
        return dataset(root, train=train, download=download)
    except Exception as error:  # torchvision and pickle raise many types for a broken file
        lines = str(error).splitlines() or [type(error).__name__]
        # torchvision's MNIST family turns the URLError of every mirror into one RuntimeError of several lines.
        if isinstance(error, (URLError, ConnectionError, TimeoutError)) or lines[0].startswith("Error downloading"):
            raise DataError(
                f"{name} is not in {root} and could not be downloaded ({lines[-1]}). "
                "Put its files there, or name their directory with data.source.root"
            ) from error
        reason = lines[0]
        remedy = "remove them and allow data.source.download=true, or name another directory with data.source.root"
        raise DataError(f"{name}: the files in {root} are missing or corrupt ({reason}); {remedy}") from error

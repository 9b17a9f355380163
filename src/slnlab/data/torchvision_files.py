"""Read a data set through torchvision, and say clearly what is wrong with its files."""

from __future__ import annotations

from typing import Any
from urllib.error import URLError

from slnlab.errors import DataError


def read(dataset: Any, root: str, *, train: bool, download: bool) -> Any:
    """`dataset(root, train, download)` of torchvision, with one kind of error.

    Raises:
        DataError: files that are missing, corrupt, or cannot be downloaded; names the directory and the remedy.
    """
    name = dataset.__name__
    try:
        return dataset(root, train=train, download=download)
    except (URLError, ConnectionError, TimeoutError) as error:
        raise DataError(
            f"{name} is not in {root} and could not be downloaded ({error}). "
            "Put its files there, or name their directory with data.source.root"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = "remove them and allow data.source.download=true, or name another directory with data.source.root"
        raise DataError(f"{name}: the files in {root} are missing or corrupt ({reason}); {remedy}") from error

from __future__ import annotations

from pathlib import Path

import pytest
from folders import put


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes with ten and six images, one of them in a folder of its own, and a test set."""
    cats = [f"train/cat/{n}.png" for n in range(9)] + ["train/cat/old/9.JPG"]
    dogs = [f"train/dog/{n}.png" for n in range(6)]
    return put(tmp_path / "images", *cats, *dogs, "test/cat/a.png", "test/dog/a.png", "test/dog/b.png")

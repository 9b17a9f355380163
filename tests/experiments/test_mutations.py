"""Every mutation of `experiments/mutations.py` has its text in the source, so that none is passed over in silence."""

from __future__ import annotations

from pathlib import Path

import mutations
import pytest

SOURCE = Path(mutations.CHECKOUT) / "src" / "slnlab"


@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda mutation: mutation.defect)
def test_the_text_of_a_mutation_is_once_in_the_source(mutation: mutations.Mutation) -> None:
    assert (SOURCE / mutation.file).read_text(encoding="utf-8").count(mutation.old) == 1
    assert (SOURCE.parents[1] / "tests" / mutation.tests.split()[0]).exists()

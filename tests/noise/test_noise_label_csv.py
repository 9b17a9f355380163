from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from slnlab.config import compose
from slnlab.data.digits import Digits
from slnlab.errors import ConfigError, DataError
from slnlab.noise import from_csv, to_csv
from slnlab.training import assemble

LABELS = torch.tensor([2, 0, 1, 2])
GOOD = "label,label_noisy\n2,1\n0,0\n1,1\n2,0\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "noise.csv"


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.rstrip("\n"),
        GOOD + "\n\n",
        "\ufeff" + GOOD,
        GOOD.replace(",", ", "),
        '"label","label_noisy"\n"2","1"\n"0","0"\n"1","1"\n"2","0"\n',
    ],
    ids=["lf", "crlf", "no-last-newline", "blank-end", "bom", "spaces", "quoted"],
)
def test_the_second_column_is_read(path: Path, text: str) -> None:
    path.write_bytes(text.encode())
    given = from_csv(LABELS, path, 3)
    assert given.dtype == torch.int64
    assert given.tolist() == [1, 0, 1, 0]
    assert from_csv(LABELS, str(path), 3).equal(given)


def test_train_size_uses_the_first_rows_of_the_file(path: Path) -> None:
    """data.train_size takes such a subset; a file for these samples alone works too."""
    path.write_text(GOOD)
    assert from_csv(LABELS[:2], path, 3, num_train=4).tolist() == [1, 0]
    assert from_csv(LABELS, path, 3, num_train=9).tolist() == [1, 0, 1, 0]
    with pytest.raises(DataError, match=r"has 4 data rows, but the data has 2 samples$"):
        from_csv(LABELS[:2], path, 3)
    with pytest.raises(DataError, match=r"has 4 data rows, but the data has 2 samples, the first of 5$"):
        from_csv(LABELS[:2], path, 3, num_train=5)


def test_a_subset_of_samples_takes_its_own_rows_of_the_file(path: Path) -> None:
    true = Digits().load("train").labels
    to_csv(path, true, (true + 1) % 10)
    config = compose(["noise=csv", f"noise.path={path}", "data.train_size=50", "data.test=false"])
    data = assemble.datamodule(config)
    data.setup()
    assert data.labels.given.tolist() == ((true[:50] + 1) % 10).tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 must be the header 'label,label_noisy', found ''"),
        ("2,1\n0,0\n1,1\n2,0\n", "line 1 must be the header 'label,label_noisy', found '2,1'"),
        (GOOD.replace("label,label_noisy", "label_noisy,label"), "line 1 must be the header"),
        (GOOD.replace("label_noisy", "label_noisy,extra"), "line 1 must be the header"),
        (GOOD + "1,1\n", "has 5 data rows, but the data has 4 samples"),
        ("label,label_noisy\n", "has 0 data rows, but the data has 4 samples"),
        (GOOD.replace("2,0\n", ""), "has 3 data rows, but the data has 4 samples"),
        (GOOD.replace("1,1", "1"), "data row 3 (line 4): must have 2 columns, has 1"),
        (GOOD.replace("1,1", "1,1,1"), "data row 3 (line 4): must have 2 columns, has 3"),
        (GOOD.replace("0,0", ""), "data row 2 (line 3): must have 2 columns, has 0"),
        (GOOD.replace("2,0", "2,x"), "data row 4 (line 5): label_noisy is 'x', not an integer"),
        (GOOD.replace("0,0", "0.0,0"), "data row 2 (line 3): label is '0.0', not an integer"),
        (GOOD.replace("0,0", "0,"), "data row 2 (line 3): label_noisy is '', not an integer"),
        (GOOD.replace("1,1", "1,1_0"), "data row 3 (line 4): label_noisy is '1_0', not an integer"),
        (GOOD.replace("2,1", "2,3"), "data row 1 (line 2): label_noisy is 3, outside the classes [0, 3)"),
        (GOOD.replace("2,0", "2,-1"), "data row 4 (line 5): label_noisy is -1, outside the classes [0, 3)"),
        (GOOD.replace("2,0", "7,0"), "data row 4 (line 5): label is 7, outside the classes [0, 3)"),
        (
            GOOD.replace("1,1", "0,1"),
            "data row 3 (line 4): label is 0, but the data's label of sample 2 is 1",
        ),
        # Two faults of different kinds: the first row is named.
        (GOOD.replace("0,0", "1,0").replace("2,0", "2,x"), "data row 2 (line 3): label is 1, but"),
        (GOOD.replace("0,0", "0,9").replace("2,1", "0,1"), "data row 1 (line 2): label is 0, but"),
    ],
)
def test_the_first_bad_row_of_a_file_is_named(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(f"{path}: {message}")):
        from_csv(LABELS, path, 3)


def test_missing_files_folders_and_binary_files_are_refused(path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(f"{path}: no such file")):
        from_csv(LABELS, path, 3)
    with pytest.raises(DataError, match=re.escape(f"{path.parent}: cannot be read")):
        from_csv(LABELS, path.parent, 3)
    path.write_bytes(b"label,label_noisy\n\xff\xfe\x00")
    with pytest.raises(DataError, match=re.escape(f"{path}: is no CSV text file")):
        from_csv(LABELS, path, 3)


def test_written_labels_have_the_published_format_and_load_again(path: Path) -> None:
    given = torch.tensor([1, 0, 1, 0])
    path.write_text("old")
    to_csv(path, LABELS, given)
    assert path.read_bytes() == GOOD.encode()
    assert from_csv(LABELS, path, 3).equal(given)
    assert [file.name for file in path.parent.iterdir()] == ["noise.csv"]


def test_writing_invalid_labels_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="given_labels: has 3 samples, true_labels 4"):
        to_csv(path, LABELS, LABELS[:3])
    with pytest.raises(ConfigError, match="true_labels"):
        to_csv(path, LABELS.float(), LABELS)
    with pytest.raises(ConfigError, match="given_labels: sample 1 has label -1"):
        to_csv(path, LABELS, torch.tensor([0, -1, 0, 0]))
    assert not path.exists()
    with pytest.raises(DataError, match=r"missing.noise\.csv: cannot be written"):
        to_csv(path.parent / "missing" / "noise.csv", LABELS, LABELS)

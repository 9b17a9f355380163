"""Commands print on terminals of any encoding, and files are UTF-8 in any locale."""

from __future__ import annotations

import ast
import importlib
import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slnlab.text.terminal import log_file, print_anywhere, quiet_on_broken_pipe

ROOT = Path(__file__).resolve().parents[1]
SAID = "σ → ± \udcff"
"""The last is a byte of a file's name that is not UTF-8."""


def modules(folder: str) -> Iterator[tuple[str, str]]:
    """(name, source) of the modules in a folder of the checkout."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        inside = path.relative_to(ROOT / "src" if folder.startswith("src") else ROOT)
        yield ".".join(inside.with_suffix("").parts), path.read_text(encoding="utf-8")


COMMANDS = [
    name
    for folder in ("src/slnlab", "benchmarks")
    for name, source in modules(folder)
    if '__name__ == "__main__"' in source and "def main(" in source
]


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, encoding: str) -> io.TextIOWrapper:
    """A stream that raises at what it cannot encode, as a terminal's does."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    monkeypatch.setattr(sys, name, stream)
    return stream


def shown(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode(stream.encoding)


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", r"\u03c3 \u2192 \xb1 \udcff"),
        ("latin-1", r"\u03c3 \u2192 ± \udcff"),
        ("cp1252", r"\u03c3 \u2192 ± \udcff"),
        ("utf-8", r"σ → ± \udcff"),
    ],
)
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_characters_outside_the_encoding_are_escaped(
    monkeypatch: pytest.MonkeyPatch, name: str, encoding: str, expected: str
) -> None:
    stream = stand_in(monkeypatch, name, encoding)
    with pytest.raises(UnicodeEncodeError):
        print(SAID, file=stream, flush=True)
    print_anywhere()
    print(SAID, file=stream, end="")
    assert shown(stream) == expected


def test_foreign_streams_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook's, and none at all (pythonw)."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", None)
    print_anywhere()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_prints_on_an_ascii_terminal(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    main: Callable[[], None] = importlib.import_module(command).main
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    out = stand_in(monkeypatch, "stdout", "ascii")
    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(SystemExit):
        main()
    print(SAID, end="")
    assert shown(out).endswith(r"\u03c3 \u2192 \xb1 \udcff"), "after its own help"
    assert len(shown(out)) > 200


@pytest.mark.parametrize("buffered", [True, False])
def test_a_command_ends_quietly_when_its_reader_closes(monkeypatch: pytest.MonkeyPatch, buffered: bool) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = io.TextIOWrapper(os.fdopen(writing, "wb", 0 if not buffered else -1), encoding="utf-8", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit) as ended:
        quiet_on_broken_pipe(lambda: print(SAID[0]))()
    assert ended.value.code == 141
    stream.close()  # as Python's end does


def test_a_broken_pipe_of_another_stream_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def training() -> None:
        raise BrokenPipeError("of a worker")

    with pytest.raises(BrokenPipeError, match="of a worker"):
        quiet_on_broken_pipe(training)()


@pytest.mark.parametrize(
    "command", sorted({name for name in COMMANDS if name.startswith("slnlab.")} - {"slnlab.train", "slnlab.__main__"})
)
def test_every_printing_command_is_prepared_for_the_terminal(command: str) -> None:
    assert hasattr(importlib.import_module(command).main, "__wrapped__")


def test_the_search_finds_the_commands() -> None:
    assert {"slnlab.train", "slnlab.report", "slnlab.tune", "slnlab.sweep", "slnlab.dashboard"} < set(COMMANDS)
    assert {"slnlab.analyze", "benchmarks.bench", "benchmarks.methods"} < set(COMMANDS)


def test_a_log_is_utf8(tmp_path: Path) -> None:
    handler = log_file(tmp_path / "train.log")
    handler.emit(logging.makeLogRecord({"msg": SAID}))
    handler.close()
    assert (tmp_path / "train.log").read_bytes() == rb"\udcff".join(["σ → ± ".encode(), b"\n"])


TEXT = {"open", "read_text", "write_text", "fdopen", "TemporaryFile", "NamedTemporaryFile", "FileHandler"}


def without_encoding(source: str) -> Iterator[int]:
    """Lines that open text in the encoding of the locale."""
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        if isinstance(owner, ast.Name) and owner.id in ("os", "Image", "archive"):  # a descriptor, a picture, a member
            continue
        keys = {keyword.arg for keyword in call.keywords}
        modes = {value.value for value in call.args if isinstance(value, ast.Constant)}
        opens_text = name in TEXT and not modes & {"rb", "wb", "xb", "ab", "r+b", "w+b"}
        if (opens_text or "text" in keys) and "encoding" not in keys:
            yield call.lineno


def test_every_open_names_its_encoding() -> None:
    found = {
        f"{name}:{line}"
        for folder in ("src", "benchmarks", "examples")
        for name, source in modules(folder)
        for line in without_encoding(source)
    }
    assert not found, "say encoding="


@pytest.mark.parametrize(
    "line",
    ["open(p)", "p.open('w')", "p.read_text()", "a.b.write_text(t)", "logging.FileHandler(p)", "run(c, text=True)"],
)
def test_the_search_finds_an_open_without_encoding(line: str) -> None:
    assert list(without_encoding(line)) == [1]
    assert not list(without_encoding(line[:-1] + f"{'' if line.endswith('()') else ', '}encoding='utf-8')"))


def test_a_run_works_in_the_c_locale(tmp_path: Path) -> None:
    """Classes with accents, and names that are not UTF-8: trained on, listed by their very bytes, and reported."""
    classes = ["é".encode(), "σ".encode()]
    for number in range(20):
        file = os.fsencode(tmp_path / "images") + b"/train/%s/%d\xfe.png" % (classes[number % 2], number)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "wb") as image:
            Image.fromarray(np.full((8, 8), 100 * (number % 2), dtype=np.uint8)).save(image, "png")
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    data = f"data=folder model=cnn data.image_size=8 data.padding=1 data.workers=0 data.source.root={tmp_path}/images"
    overrides = [*data.split(), "trainer.accelerator=cpu", "trainer.max_epochs=1", f'hydra.run.dir="{tmp_path}/rün"']
    command = [sys.executable, "-m", "slnlab.train", *overrides]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"r\\udcc3\\udcbcn" in done.stdout, "what ASCII lacks is escaped"
    listed = (tmp_path / "rün" / "label_issues.csv").read_bytes().splitlines()
    assert listed[1].split(b",")[2].startswith((b"train/%s/" % classes[0], b"train/%s/" % classes[1]))
    assert sum(b"\xfe.png," in line for line in listed) == 20
    assert "finished" in (tmp_path / "rün" / "train.log").read_text(encoding="utf-8")

"""Keys read from constructors without an import equal those of `inspect`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from hydra.utils import get_object

from slnlab.config import CONF_DIR
from slnlab.errors import ConfigError
from slnlab.schema.constructors import REQUIRED, UNKNOWN, Parameter, class_variable, constructor
from slnlab.schema.kinds import FirstEpoch, FirstEpochs, Positive, Ramp, Timing, timing

TARGETS = sorted(
    {
        target
        for path in CONF_DIR.rglob("*.yaml")
        for target in re.findall(r"^\s*_target_: ((?:slnlab|torch)\.\S+)", path.read_text("utf-8"), re.MULTILINE)
    }
)


def signature(made: Any) -> dict[str, inspect.Parameter]:
    """The parameters that Python finds, those of the bases that `**options` goes to included."""
    found: dict[str, inspect.Parameter] = {}
    for kind in made.__mro__ if inspect.isclass(made) else [made]:
        if kind is not made and "__init__" not in vars(kind):
            continue
        parameters = inspect.signature(kind).parameters.values()
        found = {each.name: each for each in parameters if each.kind is not each.VAR_KEYWORD} | found
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            break
    return {name: each for name, each in found.items() if each.kind is not each.VAR_POSITIONAL}


GIVEN = {
    "slnlab.methods.pes_semi.PESSemi": {"stage_epochs", "last_stage"},
    "slnlab.methods.fitted.Logistic": {"classifier"},
    "slnlab.methods.fitted.Neighbours": {"classifier"},
}
"""Parameters of a base that a class gives itself: they are no keys of it."""


@pytest.mark.parametrize("target", TARGETS)
def test_parameters_read_from_source_equal_inspect_signature(target: str) -> None:
    read = constructor(target)
    assert read is not None
    assert not read.more
    there = signature(get_object(target))
    assert read.parameters.keys() == there.keys() - GIVEN.get(target, set())
    for name, parameter in read.parameters.items():
        default = there[name].default
        if parameter.default is REQUIRED:
            assert default is inspect.Parameter.empty
        else:
            assert parameter.default is not UNKNOWN
            assert parameter.default == (list(default) if isinstance(default, tuple) else default)


def test_every_group_has_targets() -> None:
    assert len(TARGETS) > 60
    for part in ("methods", "losses", "noise", "data", "models", "loggers", "optim", "lr_scheduler"):
        assert any(f".{part}." in target for target in TARGETS), part


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Writes the source of the module `of_mine`; to import it would raise."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(source: str) -> None:
        (tmp_path / "of_mine.py").write_text("raise AssertionError('was imported')\n" + source)

    return write


def test_a_constructor_is_followed_to_its_bases(module: Callable[[str], None]) -> None:
    """But for what it gives them, by name or by place."""
    module(
        "import dataclasses\n"
        "from slnlab.schema.kinds import Positive\n"
        "Mode = list['str']\n"
        "class Base:\n"
        "    def __init__(self, network, rate: Positive, *, first: int = 1, second: 'float' = 2.0): ...\n"
        "class Middle(Base):\n"
        "    pass\n"
        "class Own(Middle):\n"
        "    law = {'a': 'b' 'c'}\n"
        "    def __init__(self, net, *, mode: Mode, other: Unknown = Unknown(), **options):\n"
        "        super().__init__(net, first=3, **options)\n"
        "class Below(Own): ...\n"
        "@dataclasses.dataclass\n"
        "class Data:\n"
        "    size: int\n"
        "    flip: bool = False\n"
        "def open_ended(x, *, deep: bool, **more): ...\n"
    )
    own = constructor("of_mine.Below")
    assert own is not None
    assert own.parameters == {
        "rate": Parameter(Positive, REQUIRED, positional=True),
        "second": Parameter(float, 2.0),
        "net": Parameter(Any, REQUIRED, positional=True),
        "mode": Parameter(list["str"], REQUIRED),  # type: ignore[type-arg]
        "other": Parameter(Any, UNKNOWN),
    }
    assert not own.more
    assert class_variable("of_mine.Below", "law") == {"a": "bc"}
    assert class_variable("of_mine.Base", "law") is None
    data = constructor("of_mine.Data")
    assert data is not None
    assert data.parameters == {"size": Parameter(int, REQUIRED), "flip": Parameter(bool, False)}
    assert constructor("of_mine.open_ended").more  # type: ignore[union-attr]


def test_names_are_resolved_through_imports(module: Callable[[str], None]) -> None:
    module(
        "import slnlab.methods\n"
        "import slnlab.losses as losses\n"
        "from slnlab.data.cifar import CIFAR as Images\n"
        "from slnlab.noise import *\n"
        "class Mine(slnlab.methods.SingleNetwork):\n"
        "    def __init__(self, network, keep: float, **options):\n"
        "        super().__init__(network, **options)\n"
    )
    mine = constructor("of_mine.Mine")
    assert mine is not None
    assert {"keep", "sigma", "mixup", "clip_norm"} < mine.parameters.keys()
    assert class_variable("of_mine.Mine", "rows") == {"network": "{}", "momentum": "{}-MO"}
    images = constructor("of_mine.Images")
    assert images is not None
    assert images.parameters["classes"].kind == Literal[10, 100]
    assert constructor("of_mine.symmetric") == constructor("slnlab.noise.symmetric")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("of_mine.Nothing", r"of_mine.Nothing cannot be found: .*of_mine.py has no Nothing"),
        ("of_nobody.Thing", r"of_nobody.Thing cannot be found: there is no module 'of_nobody'; is it on PYTHONPATH\?"),
        ("slnlab.nowhere.Thing", r"there is no module 'slnlab.nowhere'"),
        ("Thing", r"Thing cannot be found"),
    ],
)
def test_missing_targets_are_named(target: str, said: str, module: Callable[[str], None]) -> None:
    module("")
    with pytest.raises(ConfigError, match=said):
        constructor(target)


def test_a_syntax_error_in_a_module_is_named_with_its_line(module: Callable[[str], None]) -> None:
    module("\ndef f(:\n")
    with pytest.raises(ConfigError, match=r"of_mine.py, line 3: invalid syntax"):
        constructor("of_mine.f")


@pytest.mark.parametrize(
    "target", ["math.sqrt", "torch._C.Generator", "numpy.linalg._umath_linalg.det", "slnlab.data.cifar.CIFAR.load"]
)
def test_compiled_targets_and_class_members_accept_any_argument(target: str) -> None:
    assert constructor(target) is None


def test_a_class_variable_without_a_literal_is_named(module: Callable[[str], None]) -> None:
    module("class Mine:\n    refuses = {'sam.rho': reason()}\n")
    with pytest.raises(ConfigError, match=r"of_mine.Mine.refuses: must be written as a literal"):
        class_variable("of_mine.Mine", "refuses")


def test_only_marked_kinds_say_when_a_part_begins() -> None:
    """A user's option may be called "ramp"."""
    assert [timing(kind) for kind in (FirstEpochs, FirstEpoch | None, Ramp, Literal["ramp", "flat"], int)] == [
        Timing.FIRST_PHASE,
        Timing.BEGINNING,
        Timing.RAMP,
        None,
        None,
    ]

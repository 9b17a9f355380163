"""How to type an override: behind the shell's grammar, Hydra reads values by one of its own.

Nothing here imports torch.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

_KEY = r"(?:\+{0,2}|~)[A-Za-z_][\w./@-]*"
_OVERRIDE = re.compile(rf"({_KEY})\s*=\s*(.*)", re.DOTALL)


def override(key: str, value: str, several: bool = False) -> str | None:
    """What to type in a shell so that the key gets this very text.

    >>> print(override("data.source.root", "photos (1)"))
    'data.source.root="photos (1)"'
    >>> print(override("sln.sigma", "0.5"))
    sln.sigma=0.5

    Args:
        key: with `+` or `~` if need be.
        value: as meant. `~` at its beginning becomes the home directory, as in a shell; `[a,b]` is a list.
        several: a comma separates values of a sweep.

    Returns:
        None: there is no way to type it.
    """
    if value.startswith("[") and value.endswith("]"):
        texts = [_quoted(part.strip()) for part in value[1:-1].split(",")]
        text = None if None in texts else f"[{','.join(map(str, texts))}]"
    elif several and "," in value:
        texts = [_quoted(part.strip()) for part in value.split(",")]
        text = None if None in texts else ",".join(map(str, texts))
    else:
        text = _quoted(value)
    return None if text is None or not _parses(f"{key}={text}") else shlex.quote(f"{key}={text}")


def _quoted(value: str) -> str | None:
    """A value that Hydra's grammar reads as this text; a number, `true` and the like may stay what they are."""
    value = os.path.expanduser(value)
    with suppress(HydraException):
        plain = OverridesParser.create().parse_override(f"key={value}")
        if not plain.is_sweep_override() and (
            not isinstance(plain.value(), str | list | dict) or plain.value() == value
        ):
            return value
    for mark in ('"', "'"):
        inner = re.sub(rf"(\\+)(?={mark}|$)", r"\1\1", value).replace(mark, f"\\{mark}")
        text = f"{mark}{inner}{mark}"
        with suppress(HydraException):
            if OverridesParser.create().parse_override(f"key={text}").value() == value:
                return text
    return None


def _parses(text: str) -> bool:
    try:
        OverridesParser.create().parse_override(text)
    except HydraException:
        return False
    return True


def mended(words: Sequence[str], known: Collection[str], several: bool = False) -> str | None:
    """What is wrong with the first override that cannot be read, and what to type instead; None: nothing is known.

    Args:
        words: as the shell has split them.
        known: first parts of keys.
        several: a comma separates values of a sweep.
    """
    for group in _groups(words, known):
        typed = " ".join(group)
        sweeps = False
        if len(group) == 1 and _parses(typed):
            sweeps = OverridesParser.create().parse_override(typed).is_sweep_override()
            if several or not sweeps:
                continue
        found = _OVERRIDE.fullmatch(_joined(group))
        if found is None:
            return f"{typed}: is not KEY=VALUE"
        text = override(found[1], found[2], several)
        if text is None:
            return None
        sweep = None if several or "," not in found[2] else override(found[1], found[2], several=True)
        also = "" if sweep is None or sweep == text else f", or for a sweep -m {sweep}"
        wrong = "has several values" if sweeps else "cannot be read as KEY=VALUE"
        return f"{typed}: {wrong}; type {text}{also}"
    return None


def _groups(words: Sequence[str], known: Collection[str]) -> Iterator[list[str]]:
    """The words of each override: blanks around `=`, or in a value, have made several of one."""
    group: list[str] = []
    for number, word in enumerate(words):
        following = words[number + 1] if number + 1 < len(words) else ""
        key = re.fullmatch(_KEY, word) is not None
        begins = _OVERRIDE.fullmatch(word) or (key and (word.startswith("~") or following.startswith("=")))
        if begins or (key and word.split(".")[0] in known and not _OVERRIDE.fullmatch(following)) or not group:
            if group:
                yield group
            group = []
        group.append(word)
    if group:
        yield group


def _joined(group: Sequence[str]) -> str:
    """As one override, without the blanks around `=` and commas; with `=` where only a blank stands for it."""
    text = group[0]
    if "=" not in text and len(group) > 1 and not group[1].startswith("="):
        text += "="
    for word in group[1:]:
        close = text.endswith(("=", ",")) or word.startswith(("=", ","))
        text += word if close else f" {word}"
    return text

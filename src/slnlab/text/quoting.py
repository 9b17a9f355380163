"""Overrides as a user types them: the shell reads them first, then Hydra by its own grammar.

No module of this room imports torch.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from itertools import zip_longest

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from slnlab.text.terminal import can_print

_KEY = r"(?:\+{0,2}|~)[A-Za-z_][\w./@-]*"
_OVERRIDE = re.compile(rf"({_KEY})\s*=\s*(.*)", re.DOTALL)


def override(key: str, value: str, multirun: bool = False) -> str | None:
    """The word to type in a shell so that the key gets exactly this text.

    >>> print(override("data.source.root", "photos (1)"))
    'data.source.root="photos (1)"'
    >>> print(override("sln.sigma", "0.5"))
    sln.sigma=0.5

    Args:
        key: dotted, with a leading `+` or `~` where needed.
        value: the intended text. A leading `~` becomes the home directory, as in a shell; `[a,b]` is a list.
        multirun: True if a comma separates the values of a sweep.

    Returns:
        The quoted word; None if no word has this meaning.
    """
    if value.startswith("[") and value.endswith("]"):
        texts = [_quoted(part.strip()) for part in _split(value[1:-1])]
        text = None if None in texts else f"[{','.join(map(str, texts))}]"
    elif multirun and _separates(value):
        texts = [_quoted(part.strip()) for part in _split(value)]
        text = None if None in texts else ",".join(map(str, texts))
    else:
        text = _quoted(value)
    return None if text is None or not _parses(f"{key}={text}") else shlex.quote(f"{key}={text}")


_CLOSING = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'"}


def _split(value: str) -> list[str]:
    """The parts of a value between its commas; commas inside brackets or quotes do not separate."""
    parts, expected = [""], ""
    for before, char in zip(f" {value}", value, strict=False):
        if expected.endswith(char):
            expected = expected[:-1]
        elif char in "([{" or (char in "\"'" and not before.isalnum()):  # no apostrophe
            expected += _CLOSING[char]
        if char == "," and not expected:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _separates(value: str) -> bool:
    """True if the value has commas and each of them separates parts."""
    parts = _split(value)
    return len(parts) > 1 and not any("," in part for part in parts)


def _quoted(value: str) -> str | None:
    """The value as Hydra's grammar reads it back, in quotes where needed. Numbers and booleans stay as they are."""
    value = os.path.expanduser(value)
    with suppress(HydraException):
        unquoted = OverridesParser.create().parse_override(f"key={value}")
        if not unquoted.is_sweep_override() and (
            not isinstance(unquoted.value(), str | list | dict) or unquoted.value() == value
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


def _unknown_kinds(key: str) -> set[type]:
    return set()


def advice_on(
    words: Sequence[str],
    known: Collection[str],
    multirun: bool = False,
    kinds: Callable[[str], set[type]] = _unknown_kinds,
) -> str | None:
    """The fault of the first unreadable override, and what to type instead.

    Args:
        words: the words of the command line, as the shell splits them.
        known: first parts of existing keys.
        multirun: True if a comma separates the values of a sweep.
        kinds: maps a key to the types of its values; `dict` for a group, empty if unknown.

    Returns:
        One line; None if every override is readable or no better text is known.
    """
    for group in _groups(words, known):
        typed = " ".join(group)
        sweeps = False
        if len(group) == 1 and not has_no_key(typed) and _parses(typed):
            sweeps = OverridesParser.create().parse_override(typed).is_sweep_override()
            if multirun or not sweeps:
                continue
        found = _OVERRIDE.fullmatch(_joined(group))
        if found is None:
            return f"{typed}: is not KEY=VALUE"
        types = kinds(found[1].lstrip("+~")) if "," in found[2] or " " in found[2] else set()
        if dict in types and len(group) > 1 and " " in found[2]:  # an option's name has no blanks
            return f"{group[-1]}: is not KEY=VALUE"
        advice = _advice(found[1], found[2], multirun, types)
        wrong = "has several values" if sweeps else "cannot be read as KEY=VALUE"
        return None if advice is None else f"{typed}: {wrong}; {advice}"
    return None


def has_no_key(word: str) -> bool:
    """True for `=0.5`. Hydra would take it for an option without a group."""
    return word.lstrip("+~").startswith("=")


def dashed_key(words: Sequence[str], unknown: Collection[str], known: Collection[str]) -> str | None:
    """The fault of the first key with leading dashes; None if there is none.

    Args:
        words: the words of the command line, as the shell splits them.
        unknown: the words that look like options and are none.
        known: first parts of existing keys.
    """
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        key = word.lstrip("-")
        if word in unknown and ("=" in key or key.split(".")[0] in known):
            alone = "=" in key or not following or "=" in following or following.startswith("--")
            value = "" if "=" in key else "=VALUE" if alone else f"={following}"
            return f"{word}: keys have no dashes: {key}{value}"
    return None


def _advice(key: str, value: str, multirun: bool, kinds: set[type]) -> str | None:
    """The advice what to type; None if no word has the meaning of the value."""
    listed = list in kinds and not multirun and not value.startswith("[") and _separates(value)
    text = override(key, f"[{value}]" if listed else value, multirun)
    if text is None:
        return None
    if not can_print(text):
        return "put the value in double quotes inside single quotes"
    sweep = override(key, value, multirun=True) if not multirun and not listed and _separates(value) else None
    if sweep is None or sweep == text:
        return f"type {text}"
    numbers = kinds - {type(None)}
    if numbers and numbers <= {int, float, bool}:
        return f"for a sweep type -m {sweep}"
    return f"type {text}, or for a sweep -m {sweep}"


def _groups(words: Sequence[str], known: Collection[str]) -> Iterator[list[str]]:
    """The words of each override. Blanks around `=` or inside a value split one override into several words."""
    group: list[str] = []
    for number, word in enumerate(words):
        following = words[number + 1] if number + 1 < len(words) else ""
        key = re.fullmatch(_KEY, word) is not None
        begins = _OVERRIDE.fullmatch(word) or (key and (word.startswith("~") or following.startswith("=")))
        # The very last word may be part of a value and equal a key's name by chance.
        begins = begins or (
            key and following != "" and word.split(".")[0] in known and not _OVERRIDE.fullmatch(following)
        )
        begins = begins or (has_no_key(word) and word != "=" and "=" in "".join(group))
        if begins or not group:
            if group:
                yield group
            group = []
        group.append(word)
    if group:
        yield group


def _joined(group: Sequence[str]) -> str:
    """One override from its words, without blanks around `=` and commas; a missing `=` is added."""
    text = group[0]
    if "=" not in text and len(group) > 1 and not group[1].startswith("="):
        text += "="
    for word in group[1:]:
        close = text.endswith(("=", ",")) or word.startswith(("=", ","))
        text += word if close else f" {word}"
    return text

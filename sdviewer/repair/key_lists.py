"""A list of keys in a text: one a line, as people print them, or as JSON; shapes where it states them."""

from __future__ import annotations

import json
import re
from typing import Any

from sdviewer.core import text as words
from sdviewer.core.checkpoint import MOST_ELEMENTS
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.key_table import KeyTable
from sdviewer.errors import OpenError
from sdviewer.repair.messages.phrases import listed_keys
from sdviewer.repair.wording import quoted

MOST_DIMENSIONS = 64

LONGEST_LINE = 8000

_KEY = re.compile(r"""\s*(?:[-*•]\s+|\d+[.:)]\s+)?["']?([^\s"',|=]+)["']?""")
_OPENED = re.compile(r"(?:torch\.Size\()?[\[(]{1,2}([\d,\s]*)[\])]{1,3}")
_CROSSED = re.compile(r"\d+(?:[x×]\d+)*")
_BETWEEN = " \t:|=,;"
_BARE_KEYS = re.compile(r"\s*(?:odict_keys|dict_keys|set|frozenset)?\(?[\[{]")


def is_json(text: str) -> bool:
    """Whether a text can be JSON that says something of keys: an object or a list."""
    return text.lstrip("\ufeff \t\r\n")[:1] in ("{", "[")


def read_json(text: str, path: str = "") -> Any:
    """The JSON value of a text, objects as lists of pairs so that a key that stands twice is seen.

    Raises:
        OpenError: it is not JSON (code `bad_target`).
    """
    try:
        return json.loads(text.lstrip("\ufeff"), object_pairs_hook=Pairs)
    except RecursionError:
        raise _bad("it is nested too deeply for a list of keys", path) from None
    except json.JSONDecodeError as error:
        raise _bad(f"it is not JSON: {words.visible(str(error), 200)}", path) from None
    except ValueError:  # Python reads no integer of more than 4,300 digits
        raise _bad("a number in it is too long", path) from None


class Pairs(list[tuple[str, Any]]):
    """The entries of a JSON object in their order."""

    def plain(self) -> dict[str, Any]:
        """As a mapping, with all objects in it; of a key that stands twice the last.

        Raises:
            OpenError: it is nested too deeply (code `bad_target`).
        """
        try:
            return {key: _plain(value) for key, value in self}
        except RecursionError:
            raise _bad("it is nested too deeply", "") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Pairs):
        return value.plain()
    return [_plain(one) for one in value] if isinstance(value, list) else value


def table_of_json(value: Any, path: str = "") -> KeyTable:
    """The keys of `{"key": [shape] | null}`, or of a list of keys.

    Raises:
        OpenError: it is neither (code `bad_target`).
    """
    if isinstance(value, Pairs):
        entries = [(key, _shape(key, shape, path)) for key, shape in value]
    elif isinstance(value, list) and all(isinstance(key, str) for key in value):
        entries = [(key, None) for key in value]
    else:
        raise _bad('a list of keys in JSON is {"key": [2, 3]}, {"key": null} or ["key", "key"]', path)
    return _table([key for key, _ in entries], [shape for _, shape in entries], [""] * len(entries), path)


def _shape(key: str, value: Any, path: str) -> tuple[int, ...] | None:
    if value is None:
        return None
    sizes = isinstance(value, list) and len(value) <= MOST_DIMENSIONS
    if sizes and all(type(size) is int and 0 <= size <= MOST_ELEMENTS for size in value):
        return tuple(value)
    raise _bad(f"{quoted(key)} has no shape: a list of sizes or null is expected, as in [64, 3, 7, 7]", path)


def table_of_lines(text: str, path: str = "") -> KeyTable:
    """The keys of a text with one a line, and their shapes where they stand behind them.

    Raises:
        OpenError: a line is no key (code `bad_target`).
    """
    if _BARE_KEYS.match(text):
        keys, whole = listed_keys(text)
        if whole:
            return _table(keys, [None] * len(keys), [""] * len(keys), path)
    lines = []
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        entry = _line(line) if len(line) <= LONGEST_LINE else None
        if entry is None:
            raise _bad(f"line {number:,} is no key: {quoted(line.strip()[:80])}", path)
        lines.append(entry)
    return _table([key for key, *_ in lines], [shape for _, shape, _ in lines], [dtype for *_, dtype in lines], path)


def _line(line: str) -> tuple[str, tuple[int, ...] | None, str] | None:
    """Key, shape and dtype of `conv1.weight torch.Size([64, 3, 7, 7]) torch.float32`, or of less; None for a prose."""
    found = _KEY.match(line)
    if found is None:
        return None
    key = found[1].rstrip(":;")
    rest = line[found.end() :].strip(_BETWEEN)
    shape: tuple[int, ...] | None = None
    opened = _OPENED.match(rest)
    crossed = _CROSSED.match(rest)
    if opened is not None:
        shape = _sizes(opened[1].split(","))
        rest = rest[opened.end() :]
    elif crossed is not None:
        shape = _sizes(re.split("[x×]", crossed[0]))
        rest = rest[crossed.end() :]
    dtype = rest.strip(_BETWEEN).removeprefix("torch.")
    known = not dtype or dtype in DTYPES
    return (key, shape, dtype) if key and known and (shape is None or len(shape) <= MOST_DIMENSIONS) else None


def _sizes(texts: list[str]) -> tuple[int, ...] | None:
    sizes = [text.strip() for text in texts]
    if len(sizes) > MOST_DIMENSIONS + 1 or any(len(size) > 19 for size in sizes):
        return None
    return tuple([int(size) for size in sizes if size])


def _table(keys: list[str], shapes: list[tuple[int, ...] | None], dtypes: list[str], path: str) -> KeyTable:
    if not keys:
        raise _bad("there is no key in it", path)
    if len(set(keys)) < len(keys):
        seen: set[str] = set()
        twice = next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _bad(f"{quoted(twice)} stands in it twice", path)
    return KeyTable(tuple(keys), tuple(shapes), tuple(dtypes), ordered=keys != sorted(keys))


def _bad(message: str, path: str) -> OpenError:
    return OpenError(
        message,
        path=path,
        code="bad_target",
        remedy='A target is a checkpoint, a config.json, a load message, or keys: one a line or JSON, {"key": [2, 3]}.',
    )

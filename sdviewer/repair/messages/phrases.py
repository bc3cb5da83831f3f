"""The pieces that load messages are made of: phrases that a terminal may have wrapped, lists of keys, shapes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

LONGEST_KEY = 4000
"""Characters between two phrases that can be one key."""

LONGEST_ITEM = 12_000
"""Characters of one sentence about one key: two keys and two shapes."""

_BREAK = r"(?:\n[ \t]{0,16})?"
_WRAP = re.compile(r"[ \t]*\n[ \t]*")


def phrase(words: str) -> str:
    """A pattern of these words that a line break may stand in anywhere, with any blanks between them."""
    return "".join([r"\s{1,80}" if ch == " " else re.escape(ch) + _BREAK for ch in words])


def heads(*, ignore_case: bool = False, **named: str | tuple[str, str]) -> re.Pattern[str]:
    """A pattern of phrases, each a named group; a tuple has a pattern behind its phrase.

    It begins with a set of characters, for which `re` looks ten times as fast as for a choice of patterns.
    """
    firsts = {words if isinstance(words, str) else words[0] for words in named.values()}
    letters = "".join(sorted({ch for words in firsts for ch in (words[0], words[0].swapcase() if ignore_case else "")}))
    choices = [
        rf"(?P<{name}>(?<={re.escape(words[0])}){_BREAK}{phrase(words[1:])}{behind})"
        for name, (words, behind) in [(n, (w, "") if isinstance(w, str) else w) for n, w in named.items()]
    ]
    return re.compile(f"[{re.escape(letters)}](?:{'|'.join(choices)})", re.IGNORECASE if ignore_case else 0)


SHAPE = phrase("torch.Size([") + r"([\d,\s]{0,600})" + phrase("])")


def shape_of(digits: str) -> tuple[int, ...]:
    """The sizes in the text between the brackets of a shape; a wrapped number is put together."""
    sizes = "".join(digits.split()).split(",")
    return tuple([int(size) for size in sizes if size])


def unwrapped(text: str) -> str:
    """A key without the line breaks that a terminal put into it."""
    return _WRAP.sub("", text).strip() if "\n" in text else text.strip()


class Section(NamedTuple):
    """A phrase that was found, by the name of its group, with its match and the text up to the next one."""

    kind: str
    match: re.Match[str]
    text: str


def sections(heads: re.Pattern[str], text: str) -> Iterator[Section]:
    """The text cut at all phrases of a pattern whose alternatives are named groups."""
    last: re.Match[str] | None = None
    for match in heads.finditer(text):
        if last is not None:
            yield Section(last.lastgroup or "", last, text[last.end() : match.start()])
        last = match
    if last is not None:
        yield Section(last.lastgroup or "", last, text[last.end() :])


_QUOTED = re.compile(r'\s*"([^"]*)"\s*(,?)')
_CUT = re.compile(r"\s*(?:\.{2,}|…|\[\s*\.{2,})")


def quoted_keys(text: str) -> tuple[list[str], bool]:
    """The keys of `"a", "b"` at the start of a text; and whether the list ends as one does."""
    keys: list[str] = []
    at = 0
    while True:
        entry = _QUOTED.match(text, at)
        if entry is None:
            return keys, False
        keys.append(unwrapped(entry[1]))
        at = entry.end()
        if not entry[2]:
            return keys, _CUT.match(text, at) is None


_LITERAL = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\s*(,?)""", re.DOTALL)
_OPENING = re.compile(r"\s*(?:set\(|frozenset\(|odict_keys\(|dict_keys\(|\()?\s*[\[{(]")
_EMPTY = re.compile(r"\s*[\]})]")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def listed_keys(text: str) -> tuple[list[str], bool]:
    """The keys of a Python list or set of texts at the start of a text; and whether it is whole."""
    opening = _OPENING.match(text)
    if opening is None:
        return [], False
    keys: list[str] = []
    at = opening.end()
    while True:
        if _EMPTY.match(text, at):
            return keys, True
        entry = _LITERAL.match(text, at)
        if entry is None:
            return keys, False
        key = entry[1] if entry[1] is not None else entry[2]
        keys.append(unwrapped(_ESCAPED.sub(r"\1", key) if "\\" in key else key))
        at = entry.end()
        if not entry[3]:
            return keys, _EMPTY.match(text, at) is not None


def bare_keys(text: str) -> tuple[list[str], bool]:
    """The keys of `a, b` without quotes; and whether the list is whole.

    A line that ends in a comma goes on in the next one. One that does not was wrapped within a key.
    """
    pieces = [unwrapped(piece) for piece in text.split(",")]
    whole = bool(pieces[-1]) and not pieces[-1].endswith(("..", "…"))
    if not whole:
        pieces.pop()
    return [piece for piece in pieces if piece], whole

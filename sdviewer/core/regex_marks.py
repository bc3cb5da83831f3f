"""What the pieces of a regular expression are, told without compiling it, while somebody types it.

The syntax is that of Python's `re`. What is wrong is told at its place for what can be seen by reading: brackets,
escapes, ranges, repeats. Names, references and widths are left to whoever compiles it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from sdviewer.core.key_filter import regexes_in

Kind = Literal["group", "class", "escape", "repeat", "anchor", "error"]

LONGEST: Final = 1000
"""Characters of an expression that are looked at; what follows is plain."""

_OPENING = re.compile(r"\((?:\?(?:P<[^>)]*>|P=[^>)]*|<=|<!|[:=!>]|#[^)]*|\([^)]*\)|[aiLmsux]*(?:-[imsx]+)?[:)]))?")
_COUNT = re.compile(r"\{(\d*)(,?)(\d*)\}")
_ESCAPE = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|N\{[^}]*\}|[0-9]{1,3}|[^xuUN])", re.DOTALL)
_LETTERS: Final = frozenset("abfnrtvdDsSwWAbBZ")
_LETTERS_IN_SET: Final = frozenset("abfnrtvdDsSwWb")
_SETS: Final = frozenset("dDsSwW")
_ANCHORS: Final = frozenset("AbBZ")


class Mark(NamedTuple):
    """A piece of an expression; `words` says what is wrong with an error."""

    start: int
    length: int
    kind: Kind
    words: str = ""


def regex_marks(pattern: str) -> list[Mark]:
    """The pieces that are more than literal text, in their order; errors behind what they are about."""
    return _Reading(pattern[:LONGEST], cut=len(pattern) > LONGEST).marks()


def filter_marks(text: str) -> list[Mark]:
    """The pieces of the regular expressions in a filter (`core.key_filter`)."""
    return [mark._replace(start=mark.start + at) for at, pattern in regexes_in(text) for mark in regex_marks(pattern)]


def replacement_marks(template: str) -> list[Mark]:
    """The references to groups in what a regular expression is replaced by."""
    found = re.finditer(r"\\(?:g<[^>]*>|[0-9]{1,2}|.)", template[:LONGEST])
    return [Mark(hit.start(), len(hit[0]), "group" if hit[0][1] in "g0123456789" else "escape") for hit in found]


@dataclass
class _Reading:
    """One pass over an expression. `repeatable` says what stands before: nothing, something, or a repeat."""

    text: str
    cut: bool
    at: int = 0
    open: list[int] = field(default_factory=list)
    repeatable: Literal["nothing", "something", "repeat"] = "nothing"
    found: list[Mark] = field(default_factory=list)

    def marks(self) -> list[Mark]:
        while self.at < len(self.text):
            self._next(self.text[self.at])
        if not self.cut:
            for start in self.open:
                self._wrong(start, 1, "this group is not closed")
        return self.found

    def _put(self, length: int, kind: Kind) -> None:
        self.found.append(Mark(self.at, length, kind))
        self.at += length

    def _wrong(self, start: int, length: int, words: str) -> None:
        self.found.append(Mark(start, length, "error", words))

    def _next(self, char: str) -> None:
        if char == "\\":
            self._escape()
        elif char == "[":
            self._set()
        elif char == "(":
            self._opening()
        elif char == ")":
            if self.open:
                self.open.pop()
            else:
                self._wrong(self.at, 1, "no group is open here")
            self._put(1, "group")
            self.repeatable = "something"
        elif char == "|":
            self._put(1, "group")
            self.repeatable = "nothing"
        elif char in "^$":
            self._put(1, "anchor")
            self.repeatable = "nothing"
        elif char in "*+?" or (char == "{" and self._count() is not None):
            self._repeat(char)
        else:
            self.repeatable = "something"
            if char == ".":
                self._put(1, "class")
            else:
                self.at += 1

    def _escape(self) -> None:
        hit = _ESCAPE.match(self.text, self.at)
        length = 1 if hit is None else len(hit[0])
        self._judge_escape(hit, self.at, _LETTERS)
        letter = self.text[self.at + 1 : self.at + 2]
        kind: Kind = "anchor" if letter in _ANCHORS and letter else "class" if letter in _SETS and letter else "escape"
        self._put(length, kind)
        self.repeatable = "nothing" if kind == "anchor" else "something"

    def _judge_escape(self, hit: re.Match[str] | None, at: int, letters: frozenset[str]) -> None:
        letter = self.text[at + 1 : at + 2]
        if hit is None:
            if not (self.cut and at + 10 > len(self.text)):
                self._wrong(at, 1 + len(letter), "this escape is not complete")
        elif letter.isascii() and letter.isalpha() and letter not in letters and letter not in "xuUN":
            self._wrong(at, 2, f"there is no escape \\{letter}")

    def _opening(self) -> None:
        hit = _OPENING.match(self.text, self.at)
        assert hit is not None
        said = hit[0]
        rest = self.text[self.at + 1 : self.at + 2]
        if said == "(" and rest == "?":
            self._wrong(self.at, 2, "no kind of group begins like this")
        if said.startswith("(?#"):
            closed = self.at + len(said) < len(self.text)
            if not closed and not self.cut:
                self._wrong(self.at, 3, "this comment is not closed")
            self._put(len(said) + closed, "group")
            return
        whole = said.endswith(")") and not said.startswith("(?(")
        if whole or said.startswith("(?P="):
            # Flags, or what another group found: closed where it began.
            if whole and self.at:
                self._wrong(self.at, len(said), "flags of the whole expression stand at its beginning")
            self._put(len(said) + (not whole and self.text[self.at + len(said) :][:1] == ")"), "group")
            self.repeatable = "nothing" if whole else "something"
            return
        self.open.append(self.at)
        self._put(len(said), "group")
        self.repeatable = "nothing"

    def _count(self) -> re.Match[str] | None:
        """A counted repeat; braces with anything else in them are literal text."""
        hit = _COUNT.match(self.text, self.at)
        return hit if hit is not None and (hit[1] or hit[2]) else None

    def _repeat(self, char: str) -> None:
        start = self.at
        hit = self._count() if char == "{" else None
        length = len(hit[0]) if hit is not None else 1
        if hit is not None and hit[1] and hit[3] and _large(hit[1]) > _large(hit[3]):
            self._wrong(start, length, "the least is more than the most")
        if self.repeatable == "nothing":
            self._wrong(start, length, "there is nothing to repeat")
        elif self.repeatable == "repeat":
            self._wrong(start, length, "this is repeated already")
        # Lazy, or possessive.
        length += self.text[start + length : start + length + 1] in ("?", "+")
        self._put(length, "repeat")
        self.repeatable = "repeat"

    def _set(self) -> None:
        start, at = self.at, self.at + 1
        at += self.text[at : at + 1] == "^"
        first = at
        while at < len(self.text) and (self.text[at] != "]" or at == first):
            item, length = self._item(at)
            ranged = self.text[at + length : at + length + 1] == "-" and self.text[at + length + 1 : at + length + 2]
            if ranged and ranged != "]":
                other, more = self._item(at + length + 1)
                if not (item and other and item <= other):
                    self._wrong(at, length + 1 + more, "this range has no beginning or ends before it")
                length += 1 + more
            at += length
        closed = at < len(self.text)
        if not closed and not self.cut:
            self._wrong(start, 1, "this set is not closed")
        self._put(min(at + closed, len(self.text)) - start, "class")
        self.repeatable = "something"

    def _item(self, at: int) -> tuple[str, int]:
        """One character of a set as itself, "" for a class such as `\\d`, and how long it is."""
        if self.text[at] != "\\":
            return self.text[at], 1
        hit = _ESCAPE.match(self.text, at)
        self._judge_escape(hit, at, _LETTERS_IN_SET)
        if hit is None:
            return "", min(2, len(self.text) - at)
        return _meant(hit[0]), len(hit[0])


def _meant(escape: str) -> str:
    """The character that an escape of a set stands for, "" for a class."""
    letter = escape[1]
    if letter in _SETS:
        return ""
    if letter in "xuU":
        number = int(escape[2:], 16)
        return chr(number) if number < 0x110000 else ""
    if letter.isdigit():
        return chr(int(escape[1:], 8)) if set(escape[1:]) <= set("01234567") else letter
    plain = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
    return plain.get(letter, letter)


def _large(digits: str) -> int:
    return int(digits[:9])


def errors(marks: Sequence[Mark]) -> list[Mark]:
    """What is wrong, in the order of the text."""
    return sorted(mark for mark in marks if mark.kind == "error")

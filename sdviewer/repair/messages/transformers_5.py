"""The load report of transformers 5: a table of keys, folded over the numbers in them.

Up to ten numbers are listed (`{0, 1, 2}`), more become a range even where it has gaps (`{0...11}`); each of two numbers
in a key is the union, not the pairs; the shapes are those of the last key of a group. So what is filled in is
approximate. Facts: transformers 5.23 `utils/loading_report.py`.
"""

from __future__ import annotations

import itertools
import re

from sdviewer.core.text import count
from sdviewer.repair.messages.load_message import Gathered
from sdviewer.repair.messages.phrases import SHAPE, phrase, shape_of
from sdviewer.repair.wording import quoted

NAME = "transformers 5"
WORDS = ("REPORT", "MISSING", "UNEXPECTED", "MISMATCH")

MOST_FILLED_IN = 500_000
"""Keys that one report stands for, at most: a real one has some 20,000."""

_TITLE = re.compile(phrase("LOAD REPORT"))
_ROW = re.compile(r"([^|\n]{1,4000})\|\s{0,20}(MISSING|UNEXPECTED|MISMATCH|CONVERSION|OWNED|SKIPPED)\s{0,20}(?:\||$)")
_HEADER = re.compile(r"\s*Key\s*\||[\s+|-]*$|\s*Status\b")
_SHAPES = re.compile(rf"ckpt:\s{{0,20}}{SHAPE}\s{{0,20}}vs\s{{0,20}}model:\s{{0,20}}{SHAPE}")
_NUMBERS = re.compile(r"\{(\d{1,9}(?:\.{3}\d{1,9}|(?:,\s?\d{1,9}){0,20}))\}")


def read(text: str, found: Gathered) -> bool:
    """Add what the text says; whether it says anything in this dialect."""
    title = _TITLE.search(text)
    if title is None and re.search(r"\|\s{0,20}(?:MISSING|UNEXPECTED|MISMATCH)\b", text) is None:
        return False
    if title is not None:
        before = text[max(0, title.start() - 400) : title.start()].split()
        found.model = before[-1] if before else ""
        found.whole_head = True
    left = MOST_FILLED_IN
    for key, status, details in _rows(text[title.end() :] if title is not None else text):
        if status in ("OWNED", "SKIPPED"):
            continue
        keys, approximate = filled_in(key, left)
        if keys is None:
            found.incomplete = True
            found.note(f"{quoted(key)} stands for more keys than any model has; it was left out.")
            continue
        left -= len(keys)
        found.approximate |= approximate
        if status == "MISSING":
            found.missing.update(dict.fromkeys(keys))
        elif status == "UNEXPECTED":
            found.unexpected.update(dict.fromkeys(keys))
        elif status == "CONVERSION":
            found.missing.update(dict.fromkeys(keys))
            found.note(f"A conversion failed on {quoted(key)} ({count(len(keys))}): the model has it without a value.")
        else:
            shapes = _SHAPES.search(details)
            if shapes is None:
                found.cut("a row about shapes")
                continue
            pair = (shape_of(shapes[1]), shape_of(shapes[2]))
            found.mismatched.update(dict.fromkeys(keys, pair))
    found.ordered = False
    if title is None:
        found.incomplete = True
        found.note("The report does not begin with its title; there may be more above it.")
    return True


def _rows(text: str) -> list[tuple[str, str, str]]:
    """Key, status and details of each row; rows that a narrow terminal wrapped are put together."""
    rows: list[tuple[str, str, str]] = []
    begun = ""
    for line in text.split("\n"):
        row = _ROW.match(begun + line) if "|" in line else None
        if row is not None and row[1].strip():
            rows.append((row[1].strip(), row[2], (begun + line)[row.end() :]))
            begun = ""
        elif line and not line.strip():
            continue  # the blanks behind a key, wrapped
        elif not line or _HEADER.match(line) or line.startswith("Notes"):
            begun = ""
            if rows and line.startswith("Notes"):
                break
        elif rows and _goes_on(rows[-1]):
            key, status, details = rows[-1]
            rows[-1] = (key, status, details + line)
        else:
            begun = begun + line if len(begun) < 4000 else ""
    return rows


def _goes_on(row: tuple[str, str, str]) -> bool:
    """Whether a row's details are not at their end: a traceback has no end, two shapes have."""
    _, status, details = row
    return status == "CONVERSION" or (status == "MISMATCH" and _SHAPES.search(details) is None)


def filled_in(key: str, most: int) -> tuple[list[str] | None, bool]:
    """The keys that a folded one stands for, None for more than `most`; and whether some of them may not be."""
    pieces = _NUMBERS.split(key)
    if len(pieces) == 1:
        return [key], False
    choices = [_choices(piece, most) if at % 2 else [piece] for at, piece in enumerate(pieces)]
    total = 1
    for some in choices:
        total *= len(some) if some is not None else most + 1
        if total > most:
            return None, True
    exact = len(pieces) == 3 and "..." not in pieces[1]
    return ["".join(one) for one in itertools.product(*[some or [] for some in choices])], not exact


def _choices(numbers: str, most: int) -> list[str] | None:
    first, dots, last = numbers.partition("...")
    if not dots:
        return [number.strip() for number in numbers.split(",")]
    if not 0 <= int(last) - int(first) < most:
        return None
    return [str(number) for number in range(int(first), int(last) + 1)]

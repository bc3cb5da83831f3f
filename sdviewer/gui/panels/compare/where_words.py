"""What is said of where two checkpoints differ: which parts are frozen, which pair a cell is, how much it changed."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import Final

from sdviewer.core import text

MOST_NAMED: Final = 6
"""Frozen parts that are named; of more the number is told."""
_NUMBERED: Final = re.compile(r"(.*?)\.?(\d{1,9})$")
_FOLDED: Final = re.compile(r"(.*?)\.?(\d{1,9}) \u2013 (\d{1,9})$")
"""Alike blocks that are one row: `blocks.0 – 5`."""


def frozen_words(names: Sequence[str]) -> str:
    """`embed and blocks 0–5 are identical`; "" where nothing is."""
    parts = list(_runs(names))
    if not parts:
        return ""
    shown, more = parts[:MOST_NAMED], len(parts) - MOST_NAMED
    if more > 0:
        shown = [*shown, text.plural(more, "other part")]
    listed = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
    several = len(shown) > 1 or any(mark in shown[0] for mark in "\u2013,")
    return f"{listed} {'are' if several else 'is'} identical"


def _runs(names: Sequence[str]) -> list[str]:
    """The names, those that differ by a number that is counted up as one."""
    parts: list[str] = []
    keyed = [(name, None if _FOLDED.fullmatch(name) else _NUMBERED.fullmatch(name)) for name in names]
    for stem, group in itertools.groupby(keyed, key=lambda entry: entry[1][1] if entry[1] else entry[0]):
        members = list(group)
        numbers = [int(hit[2]) for _, hit in members if hit is not None]
        if len(numbers) < 2 or len(numbers) != len(members):
            parts += [_FOLDED.sub("\\1 \\2\u2013\\3", name).strip() for name, _ in members]
            continue
        spans = []
        for _, run in itertools.groupby(enumerate(numbers), key=lambda entry: entry[1] - entry[0]):
            found = [number for _, number in run]
            spans.append(f"{found[0]}\u2013{found[-1]}" if len(found) > 1 else str(found[0]))
        parts.append(f"{stem} {', '.join(spans)}".strip())
    return parts


def share_words(value: float | None) -> str:
    """How much a pair changed, as a share of A."""
    if value is None or math.isnan(value):
        return "not compared"
    return "\u221e" if math.isinf(value) else text.percent(value)


def scale_words(value: float) -> str:
    """A number at the bar of colours: `16 %`, `0.4 %`."""
    if value == 0:
        return "0"
    return f"{text.value(float(f'{100 * value:.2g}'))} %"

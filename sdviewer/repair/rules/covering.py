"""Finds few patterns that mean exactly the keys that are wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sdviewer.repair.patterns import compile_pattern, literal_pattern
from sdviewer.repair.rules.cells import MARK, SPECIAL, numbers_of, shape_of

MOST_PATTERNS = 60
"""Kinds of keys for which patterns are sought."""


def covering(wanted: Sequence[str], others: Sequence[str], *, most: int) -> list[str] | None:
    """Patterns for the wanted keys and for none of the others; None where it takes more than `most`."""
    kinds: dict[str, list[str]] = {}
    for key in wanted:
        kinds.setdefault(shape_of(key), []).append(key)
    if len(kinds) > MOST_PATTERNS:
        return list(map(literal_pattern, wanted)) if len(wanted) <= most else None
    left = dict.fromkeys(wanted)
    tried: dict[str, list[str]] = {}
    for kind, keys in kinds.items():
        if not any(map(SPECIAL.search, keys)):
            for pattern in _patterns(kind, keys):
                if pattern not in tried and not any(map(compile_pattern(pattern).matches, others)):
                    tried[pattern] = list(filter(compile_pattern(pattern).matches, wanted))
    found: list[str] = []
    while left and tried:
        best = max(tried, key=lambda pattern: (sum(key in left for key in tried[pattern]), -_width(pattern)))
        taken = [key for key in tried.pop(best) if key in left]
        if not taken:
            break
        found.append(literal_pattern(taken[0]) if len(taken) == 1 else best)
        for key in taken:
            del left[key]
    found += map(literal_pattern, left)
    return found if len(found) <= most else None


def _width(pattern: str) -> int:
    """How much more than its kind of key a pattern means; a wide one is taken only where it saves others."""
    return pattern.count("**") * 1000 - len(pattern)


def _patterns(kind: str, keys: Sequence[str]) -> Iterator[str]:
    columns = list(zip(*map(numbers_of, keys), strict=True))
    pieces = kind.split(MARK)
    text = pieces[0]
    for column, piece in zip(columns, pieces[1:], strict=True):
        text += (str(column[0]) if len(set(column)) == 1 else "*") + piece
    yield text
    components = text.split(".")
    for cut in range(1, min(len(components), 9)):
        above = ".".join(components[:-cut])
        if above.strip("*."):
            yield f"{above}.**"
    for front in range(1, min(len(components), 9)):
        below = ".".join(components[front:])
        if below.strip("*."):
            yield f"**.{below}"

"""What the plots of a pair have in common: they ask about two tensors, one of which may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, ClassVar, Final

from sdviewer.core import text
from sdviewer.gui.jobs import Body
from sdviewer.gui.plots.numbers import has_numbers, long_axes
from sdviewer.gui.plots.place import Index
from sdviewer.gui.plots.plot import Facts, Plot

SIDES: Final = ("a", "b")
NAMES: Final[Mapping[str, str]] = {"a": "A", "b": "B"}
SHOWN: Final = 24
"""Characters of the name of a file in a legend."""


def pair_facts(facts: Facts) -> dict[str, Any]:
    """The facts of a pair as a plot takes them: those of A, or of B alone, with both sides below "a" and "b"."""
    base = facts.get("a") or facts.get("b") or {}
    return {**base, "a": facts.get("a"), "b": facts.get("b"), "status": "", "numbers": {}, **facts}


def sides_of(facts: Facts) -> dict[str, Facts]:
    """The sides that are there, by their names in a request."""
    return {side: facts[side] for side in SIDES if facts.get(side)}


def measured(facts: Facts) -> list[str]:
    """The sides whose values are numbers that can be read."""
    return [side for side, one in sides_of(facts).items() if has_numbers(one)]


def is_same(facts: Facts) -> bool:
    """Whether both sides are known to have the same values, so that one picture shows both."""
    return facts["status"] == "identical" or (facts["numbers"] or {}).get("cast") == "equal"


def comparable(facts: Facts) -> bool:
    """Whether both sides have numbers at the same places; dimensions of size 1 make no difference."""
    if len(measured(facts)) < 2:
        return False
    a, b = ([size for size in facts[side]["shape"] if size != 1] for side in SIDES)
    return a == b


def same_shape(facts: Facts) -> bool:
    """Whether both sides have numbers and one shape."""
    return len(measured(facts)) == 2 and list(facts["a"]["shape"]) == list(facts["b"]["shape"])


def is_line(facts: Facts) -> bool:
    """Whether all sides have at most one dimension of more than one index, and some has one."""
    longs = [len(long_axes(one)) for one in sides_of(facts).values()]
    return max(longs, default=0) == 1


def is_scalar(facts: Facts) -> bool:
    """Whether all sides are one value."""
    return bool(sides_of(facts)) and all(not long_axes(one) for one in sides_of(facts).values())


def index_in(cell: Index, of: Sequence[int], other: Sequence[int]) -> Index | None:
    """Where an element of a tensor of shape `of` stands in another; None where that has none at its place.

    Dimensions of size 1 make no difference.
    """
    if len(of) == len(other):
        return cell if all(at < size for at, size in zip(cell, other, strict=True)) else None
    places = iter([at for at, size in zip(cell, of, strict=True) if size != 1])
    longs = [size for size in other if size != 1]
    if [size for size in of if size != 1] != longs:
        return None
    return tuple(next(places) if size != 1 else 0 for size in other)


class PairPlot(Plot):
    """A plot of a pair; its facts are `pair_facts`. `main`: the page shows one of these alone above the others."""

    main: ClassVar[bool] = False

    names: tuple[str, str] = ("A", "B")
    """What the two files are called."""

    @staticmethod
    def sources(facts: Facts) -> dict[str, Any]:
        known = measured(facts)
        shown = known[:1] if is_same(facts) else known
        return {side: facts[side]["source"] for side in shown}

    def _failed(self, failure: Body) -> None:
        """Say which of both files it is about."""
        name = PurePath(str(failure.get("path") or "")).name
        super()._failed({**failure, "message": f"{name}: {failure.get('message', '')}"} if name else failure)

    def file_of(self, side: str, most: int = SHOWN) -> str:
        """What the file of a side is called, in at most so many characters; "" where it has no name."""
        name = self.names[SIDES.index(side)]
        if name == NAMES[side]:
            return ""
        # Files of one run differ at the end of their names.
        cut = name if len(name) <= most else f"{name[: most // 2]}…{name[-(most - 1 - most // 2) :]}"
        return text.visible(cut)

    def called(self, side: str) -> str:
        """A side and its file: `A base`."""
        return f"{NAMES[side]} {self.file_of(side)}".rstrip()

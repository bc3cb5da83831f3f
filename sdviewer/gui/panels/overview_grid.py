"""Where each plot stands in the overview of a tensor: a fixed grid of four, so that the eye learns the places.

The distribution above, the picture at the left, two plots at the right. A place whose own plots a tensor cannot have
falls to the best of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "top": ("histogram",),
    "left": ("heatmap", "line"),
    "right": ("rows",),
    "lower right": ("spectrum",),
}
"""The plots that belong to each place, the first that a tensor can have."""

ORDER: Final = ("histogram", "heatmap", "line", "values", "spectrum", "rows")
"""The views that are offered first; the others follow by how well they suit."""


class Cell(NamedTuple):
    """A place in a grid of three rows and two columns."""

    row: int
    column: int
    rows: int
    columns: int


ALONE: Final = Cell(0, 0, 3, 2)


def places(scores: Mapping[str, int]) -> dict[str, Cell]:
    """The cell of each plot of the overview, by the scores of all that a tensor can have."""
    rest = sorted(scores, key=lambda name: (-scores[name], name))
    found: dict[str, str] = {}
    for place, names in PLACES.items():
        own = next((name for name in names if name in rest), None)
        if own is not None:
            found[place] = own
            rest.remove(own)
    for place in PLACES:
        if place not in found and rest:
            found[place] = rest.pop(0)
    return _laid_out(found)


def _laid_out(found: Mapping[str, str]) -> dict[str, Cell]:
    if len(found) == 1:
        return dict.fromkeys(found.values(), ALONE)
    cells = {found["top"]: Cell(0, 0, 1, 2)} if "top" in found else {}
    top, rows = (1, 2) if cells else (0, 3)
    right = [found[place] for place in ("right", "lower right") if place in found]
    if "left" in found:
        cells[found["left"]] = Cell(top, 0, rows, 1 if right else 2)
    column, columns = (1, 1) if "left" in found else (0, 2)
    if len(right) == 2:
        cells[right[0]] = Cell(top, column, 2 - top, columns)
        cells[right[1]] = Cell(2, column, 1, columns)
    elif right:
        cells[right[0]] = Cell(top, column, rows, columns)
    return cells


def in_order(scores: Mapping[str, int]) -> list[str]:
    """The views of a tensor as they are offered."""
    first = [name for name in ORDER if name in scores]
    return [*first, *sorted((name for name in scores if name not in ORDER), key=lambda name: (-scores[name], name))]

"""The numbers of a comparison as its tree shows them: of a pair its own, of a module those of all pairs below it.

What was measured is kept by pair (`stats.pair_table`); an aligned tree gives each row its pair. Statuses are those of
the table, and some that only a tree has (`WORDS`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.aligned import AlignedTree
from sdviewer.stats.pair_table import CASTS, STATUSES, PairTable
from sdviewer.stats.table import KNOWN, NOT_YET, UNREADABLE

WORDS: Final = (*STATUSES, "ignored", "mixed", "unreadable", "value")
"""The word of each code: after those of the table a difference that is not looked at, a module of which parts have
different statuses, a pair of which one side cannot be read, and a leaf that is no tensor and differs."""

CODES: Final = {word: code for code, word in enumerate(WORDS)}
COUNTED: Final = ("identical", "close", "changed", "shape", "dtype", "only_a", "only_b", "ignored", "unreadable")
DIFFERENT: Final = frozenset(CODES[word] for word in ("changed", "shape", "dtype", "only_a", "only_b", "value"))
ALIKE: Final = frozenset(CODES[word] for word in ("identical", "close", "ignored"))

_SEVERITY: Final = (
    *("", "identical", "ignored", "close", "unreadable", "value"),
    *("dtype", "changed", "only_a", "only_b", "shape"),
)

EXACT, AT_MOST, SO_FAR = range(3)
"""What the change of a module is: over all that was compared in it; at most the true one, as the norms of tensors that
are identical are not known yet; over what is compared so far."""

MOST_PAIRS: Final = 0.9
FAR: Final = 4.0
"""What is so many times larger than most pairs changed does not set the scale."""

Floats = NDArray[np.float64]
Codes = NDArray[np.uint8]

RANKS: Final[Codes] = np.array([_SEVERITY.index(word) if word in _SEVERITY else 0 for word in WORDS], np.uint8)
"""How grave each status is: what stands for several has the gravest of them."""

BY_RANK: Final[Codes] = np.array([CODES[word] for word in _SEVERITY], np.uint8)


@dataclass(frozen=True, slots=True)
class Ignored:
    """Differences that are not looked at: of types alone, of no value by more than `most`, of the optimizer, and of
    what the filter `keys` finds."""

    dtype: bool = False
    most: float = 0.0
    optimizer: bool = False
    keys: str = ""


class PairNumbers:
    """What is known of all pairs, and what an aligned tree shows of it."""

    def __init__(self, table: PairTable, roles: Sequence[str], weights: Sequence[bool]) -> None:
        """`roles` has the role of the state dict of each pair; `weights` whether a pair is no counter or index, but of
        a floating-point type."""
        self.table = table
        self.weights = np.array(weights, bool)
        self.ignored = Ignored()
        self._optimizer = np.array([role == "optimizer" for role in roles], bool)
        self.found = np.zeros(len(table), bool)
        """The pairs that the filter of what is ignored finds."""
        self._beside = np.full(len(table), np.nan)
        self._beside_known = np.zeros(len(table), bool)

    def statuses(self) -> Codes:
        """The status of each pair, as a code of `WORDS`."""
        table = self.table
        codes = table["status"].copy()
        codes[table["state"] == UNREADABLE] = CODES["unreadable"]
        ignored = self.ignored
        if ignored.dtype:
            codes[(codes == CODES["dtype"]) & (table["cast"] == CASTS.index("equal"))] = CODES["ignored"]
        if ignored.most > 0:
            with np.errstate(invalid="ignore"):
                small = (table["max_abs"] <= ignored.most) & (table["nonfinite_differs"] == 0)
            codes[small & (table["state"] == KNOWN) & (codes == CODES["changed"])] = CODES["ignored"]
        passed_over = self.found | self._optimizer if ignored.optimizer else self.found
        codes[passed_over & ~np.isin(codes, (0, CODES["identical"]))] = CODES["ignored"]
        return codes

    def take_norms(self, norms: Floats, known: NDArray[np.bool_]) -> None:
        """Take the norm of one side of each pair, where it is known: of identical pairs only bytes were compared."""
        self._beside, self._beside_known = norms, known

    def norms(self) -> Floats:
        """||a|| of each pair, as compared, or where both sides are identical as found beside that; NaN: not known."""
        table = self.table
        own: Floats = table["norm_a"]
        found: Floats = np.where(self._only_bytes(), self._beside, own)
        return found

    def without_norm(self) -> NDArray[np.bool_]:
        """The pairs that were compared and whose norms nobody knows."""
        missing: NDArray[np.bool_] = self._only_bytes() & ~self._beside_known
        return missing

    def _only_bytes(self) -> NDArray[np.bool_]:
        """The pairs of numbers of which only bytes were compared."""
        table = self.table
        found: NDArray[np.bool_] = (table["norm_d"] == 0) & np.isnan(table["norm_a"])
        return found

    @property
    def known(self) -> int:
        """How many pairs are measured or need not be."""
        return int(np.count_nonzero(self.table["state"] != NOT_YET))

    def counts(self) -> dict[str, int]:
        """How many pairs have each status."""
        found = np.bincount(self.statuses(), minlength=len(WORDS))
        return {word: int(found[CODES[word]]) for word in COUNTED}

    def limit(self) -> float:
        """The relative change that bars and colours go up to: the largest that is not far beyond most; 0 for none.

        Where almost nothing was before, a change is a thousand times as large as what was there.
        """
        values = self.table["rel_l2"]
        values = values[np.isfinite(values) & (values > 0)]
        if not values.size:
            return 0.0
        usual = float(np.quantile(values, MOST_PAIRS))
        return float(values[values <= max(FAR * usual, float(values.min()))].max())


class RowNumbers:
    """The numbers of the rows of one aligned tree."""

    def __init__(self, numbers: PairNumbers, tree: AlignedTree) -> None:
        """Leaves that are no pair are values that differ."""
        self._numbers = numbers
        self._tree = tree

    @property
    def values(self) -> int:
        """How many values differ."""
        return int(np.count_nonzero(self._pair[self._leaf_rows] < 0))

    @cached_property
    def _pair(self) -> NDArray[np.int64]:
        return np.array(self._tree.pair, np.int64)

    @cached_property
    def _leaf_rows(self) -> NDArray[np.int64]:
        return np.flatnonzero(np.array(self._tree.leaf, np.int64) >= 0)

    @cached_property
    def _spans(self) -> NDArray[np.int64]:
        """For each row that is no leaf where its leaves begin and end, one behind the other."""
        rows = self._module_rows
        ends = np.array(self._tree.end, np.int64)[rows]
        spans = np.empty(2 * len(rows), np.int64)
        spans[0::2] = np.searchsorted(self._leaf_rows, rows)
        spans[1::2] = np.searchsorted(self._leaf_rows, ends)
        return spans

    @cached_property
    def _module_rows(self) -> NDArray[np.int64]:
        return np.flatnonzero(np.array(self._tree.leaf, np.int64) < 0)

    def _below(self, of: Any, of_leaves: NDArray[Any], nothing: float) -> NDArray[Any]:
        """For each module what `of` makes of its leaves, for each leaf its own."""
        result = np.full(len(self._tree), nothing, of_leaves.dtype)
        result[self._leaf_rows] = of_leaves
        if len(self._module_rows):
            # One more behind the last, at which a span may end.
            padded = np.append(of_leaves, np.array([nothing], of_leaves.dtype))
            result[self._module_rows] = of.reduceat(padded, self._spans)[0::2]
        return result

    def _of_leaves(self, column: NDArray[Any], missing: float) -> NDArray[Any]:
        pairs = self._pair[self._leaf_rows]
        if not len(column):
            return np.full(len(pairs), missing, column.dtype)
        found: NDArray[Any] = np.where(pairs >= 0, column[np.maximum(pairs, 0)], np.array(missing, column.dtype))
        return found

    def statuses(self) -> Codes:
        """The status of each row: of a module that of all its parts, where they have the same."""
        leaves = self._of_leaves(self._numbers.statuses(), CODES["value"])
        least = self._below(np.minimum, leaves, 255)
        most = self._below(np.maximum, leaves, 0)
        made: Codes = np.where(least == most, most, CODES["mixed"]).astype(np.uint8)
        return made

    def worst(self) -> Codes:
        """The gravest status at and below each row."""
        leaves = RANKS[self._of_leaves(self._numbers.statuses(), CODES["value"])]
        made: Codes = BY_RANK[self._below(np.maximum, leaves, 0)]
        return made

    def changes(self) -> Floats:
        """||b - a|| / ||a|| of each pair; of a module over all pairs below it that are compared (`bounds`).

        Those are its weights, where any of them changed: one counter of batches is a thousand times as large.
        """
        table, numbers = self._numbers.table, self._numbers
        known = self._below(np.logical_or, self._of_leaves(table["state"] == KNOWN, False), False)
        norms = numbers.norms()
        moved, whole = self._together(
            np.where(numbers.weights, table["norm_d"], 0.0), np.where(numbers.weights, norms, 0.0)
        )
        moved_at_all, all_together = self._together(table["norm_d"], norms)
        whole = np.where(moved, whole, np.where(moved_at_all, all_together, np.where(known, 0.0, np.nan)))
        whole[self._leaf_rows] = self._of_leaves(table["rel_l2"], np.nan)
        return np.asarray(whole, np.float64)

    def _together(self, differences: Floats, norms: Floats) -> tuple[NDArray[np.bool_], Floats]:
        """Of each module whether the norms of differences below it make one, and that over the one of the norms."""
        # Squares of what is huge or tiny are numbers only beside what is as large.
        scale = float(norms[np.isfinite(norms)].max(initial=0.0)) or 1.0
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            squares = [
                self._below(np.add, np.nan_to_num(self._of_leaves(column / scale, 0.0)) ** 2, 0.0)
                for column in (differences, norms)
            ]
            return squares[0] > 0, np.sqrt(squares[0]) / np.sqrt(squares[1])

    def bounds(self) -> Codes:
        """What the change of each row is: `EXACT`, `AT_MOST` or `SO_FAR`."""
        table = self._numbers.table
        waiting, missing, moved = (
            self._below(np.logical_or, self._of_leaves(column, False), False)
            for column in (table["state"] == NOT_YET, self._numbers.without_norm(), table["norm_d"] > 0)
        )
        made: Codes = np.where(waiting, SO_FAR, np.where(missing & moved, AT_MOST, EXACT)).astype(np.uint8)
        made[self._leaf_rows] = EXACT
        return made

    def wanted_norms(self) -> NDArray[np.int64]:
        """The pairs whose norms would make the change of some module exact."""
        missing = self._of_leaves(self._numbers.without_norm(), False)
        moved = self._below(np.logical_or, self._of_leaves(self._numbers.table["norm_d"] > 0, False), False)
        spans = self._spans.reshape(-1, 2)[moved[self._module_rows]]
        # How many modules with a change stand above each leaf: one more where one begins, one less where it ends.
        steps = np.zeros(len(self._leaf_rows) + 1, np.int64)
        np.add.at(steps, spans[:, 0], 1)
        np.add.at(steps, spans[:, 1], -1)
        inside = np.cumsum(steps[:-1]) > 0
        return self._pair[self._leaf_rows][missing & inside]

    def cosines(self) -> Floats:
        """The cosine of each pair; NaN for modules."""
        return self._below(np.fmax, self._of_leaves(self._numbers.table["cosine"], np.nan), np.nan) + np.where(
            np.array(self._tree.leaf, np.int64) >= 0, 0.0, np.nan
        )

    def sort_keys(self, column: str, descending: bool) -> Sequence[Any]:
        """What rows are sorted by; a module goes by the first below it in that order, None is last."""
        tree = self._tree
        if column == "name":
            return [(a or b).lower() for a, b in zip(tree.name_a, tree.name_b, strict=True)]
        if column in ("shape_a", "shape_b"):
            shapes = tree.shape_a if column == "shape_a" else tree.shape_b
            return [_sizes(shape) for shape in shapes]
        if column == "rel_l2":
            values = self.changes()
        elif column == "status":
            values = RANKS[self.worst()].astype(np.float64)
        else:
            values = self._of_leaves(self._numbers.table[column].astype(np.float64), np.nan)
            values = self._below(np.fmax if descending else np.fmin, values, np.nan)
        return [None if value != value else value for value in values.tolist()]


def _sizes(shape: str) -> tuple[int, ...] | None:
    sizes = shape.split("×")
    return tuple(map(int, sizes)) if all(size.isdigit() for size in sizes) else None

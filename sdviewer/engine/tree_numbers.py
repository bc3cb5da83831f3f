"""What was measured of a file's tensors, for the rows of its tree: columns, sums of modules, marks, filters, order.

NumPy comes in with the first of it; a document that nobody asks for numbers does without.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, Problem
from sdviewer.core.dtypes import FLOATING
from sdviewer.core.key_filter import NumberTest
from sdviewer.core.paths import dotted
from sdviewer.core.sheet import CONSTANT, INF, NAN, NOTED, OUTLIER, ZERO
from sdviewer.core.tree import ModuleTree

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sdviewer.stats.table import StatisticsTable

    Floats = NDArray[np.float64]

OUTLIER_FROM: Final = 1000.0
"""How many times the mean magnitude of a tensor's other values its largest is, to be marked."""

FEWEST: Final = 8
"""Values other than zero from which one can be called an outlier."""

MOST_FINDINGS: Final = 10_000

ROW_COLUMNS: Final = ("bytes", "mean", "std", "norm", "zeros", "min", "max", "offset")
"""The columns of numbers that a tree can have."""

_FIELDS: Final = {"norm": "l2"}
_WORDS: Final = {"nan": NAN, "inf": INF, "zero": ZERO, "constant": CONSTANT, "outlier": OUTLIER}


class FileNumbers:
    """What was measured of the file that is open, whatever the recipe makes of it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._marks: NDArray[np.uint8] | None = None
        self.begun = False
        """Whether anything was measured."""

    @cached_property
    def _weights(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which tensors are floats outside of an optimizer, and which have two or more axes."""
        import numpy as np

        optimizers = {at for at, found in enumerate(self.checkpoint.state_dicts) if found.role == "optimizer"}
        tensors = self.checkpoint.tensors
        weights = [info.state_dict not in optimizers and info.dtype in FLOATING for info in tensors]
        return np.array(weights, bool), np.array([len(info.shape) > 1 for info in tensors], bool)

    @cached_property
    def table(self) -> StatisticsTable:
        """The columns of all tensors of the file."""
        from sdviewer.stats.table import StatisticsTable

        return StatisticsTable(len(self.checkpoint.tensors))

    def put(self, buffers: Mapping[str, Any]) -> None:
        """Take what the survey measured of this file (`engine.survey`)."""
        import numpy as np

        from sdviewer.stats.table import COLUMNS

        indices = np.frombuffer(buffers["indices"], np.int64)
        if indices.size:
            self.table.put(indices, {name: np.frombuffer(buffers[name], kind) for name, kind in COLUMNS.items()})
            self._marks = None
            self.begun = True

    def take_kept(self) -> None:
        """Take what was measured when the same file was open before (engine.statistics_store).

        What could not be read then is tried again.
        """
        from sdviewer.engine.statistics_store import identity_of, is_empty, load

        # Where nothing is kept of any file, there is no need for NumPy yet.
        if self.begun or is_empty():
            return
        kept = load(identity_of(self.checkpoint), self.checkpoint.tensors)
        if kept is not None and kept.known().any():
            kept["state"][~kept.known()] = 0
            self.table, self.begun, self._marks = kept, True, None

    def keep(self) -> None:
        """Let the next one who opens this file have what was measured."""
        from sdviewer.engine.statistics_store import identity_of, save

        if self.begun:
            save(identity_of(self.checkpoint), self.table)

    @property
    def known(self) -> int:
        """How many tensors were measured, or cannot be."""
        return int((self.table["state"] != 0).sum()) if self.begun else 0

    def measured(self) -> bytes:
        """For each tensor whether it was measured, or cannot be; nothing where none was."""
        return (self.table["state"] != 0).tobytes() if self.begun else b""

    @property
    def marks(self) -> NDArray[np.uint8]:
        """The health of each tensor as bits of `core.sheet`."""
        if self._marks is None:
            self._marks = _marks(self.table, *self._weights)
        return self._marks

    def findings(self) -> Iterator[Problem]:
        """All that is worth being told, up to `MOST_FINDINGS` tensors."""
        import numpy as np

        if not self.begun:
            return
        for at in np.flatnonzero(self.marks & NOTED)[:MOST_FINDINGS].tolist():
            row = {name: column[at].item() for name, column in self.table.to_buffers().items()}
            yield from _findings(int(self.marks[at]), row, dotted(self.checkpoint.tensors[at].path))

    @property
    def noted(self) -> int:
        """How many tensors are worth being told."""
        return int((self.marks & NOTED != 0).sum()) if self.begun else 0


class TreeNumbers:
    """The numbers of one tree's rows (`core.key_filter.Numbers`). `result` has the tensors that its rows mean."""

    def __init__(self, file: FileNumbers, tree: ModuleTree, result: Checkpoint) -> None:
        self._file = file
        self._tree = tree
        self._result = result

    # What the tree looks like to NumPy, made once

    @cached_property
    def _tensor(self) -> NDArray[np.int64]:
        """For each row its tensor in the file, -1 for none, and for one that a recipe computes."""
        import numpy as np

        tensor = np.array(self._tree.tensor, np.int64)
        tensor[tensor >= len(self._file.checkpoint.tensors)] = -1
        return tensor

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        """The rows that are tensors of the file."""
        import numpy as np

        return np.flatnonzero(self._tensor >= 0)

    @cached_property
    def _end(self) -> NDArray[np.int64]:
        import numpy as np

        return np.array(self._tree.end, np.int64)

    @cached_property
    def _counted(self) -> NDArray[np.bool_]:
        """The rows that are tensors and no parts of one: each counts once in the modules above."""
        import numpy as np

        counted: NDArray[np.bool_] = np.array(self._tree.tensor, np.int64) >= 0
        for row in np.flatnonzero(counted & (self._end > np.arange(len(counted)) + 1)).tolist():
            counted[row + 1 : self._end[row]] = False
        return counted

    @cached_property
    def _levels(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """From the deepest level up: rows, and the rows above them."""
        import numpy as np

        depth, parent = np.array(self._tree.depth, np.int64), np.array(self._tree.parent, np.int64)
        order = np.argsort(-depth, kind="stable")
        order = order[parent[order] >= 0]
        cuts = np.flatnonzero(np.diff(depth[order])) + 1
        return [(rows, parent[rows]) for rows in np.split(order, cuts) if rows.size]

    # Columns

    def column(self, name: str) -> Floats:
        """The numbers of one column over all rows; NaN where there is none, as for a module not measured whole."""
        import numpy as np

        if name == "bytes":
            return np.array(self._tree.nbytes, np.float64)
        if name == "offset":
            return self._offsets
        values = self._measured(name)
        if name in ("mean", "std"):
            return values
        if name in ("min", "max"):
            values = self._extreme(values, np.fmin if name == "min" else np.fmax)
        else:
            # Not the root of a sum of squares, in which what is very large or small would be lost.
            with np.errstate(over="ignore"):
                sums = self._sums(np.where(self._counted, values, 0.0), np.hypot if name == "norm" else np.add)
            values = np.where(self._is_leaf, values, sums)
        values[~self._is_leaf & ((self._missing > 0) | (self._holding == 0))] = np.nan
        return values

    @cached_property
    def _offsets(self) -> Floats:
        """Where tensors begin in their storages, in elements."""
        import numpy as np

        tensors = self._result.tensors
        offsets = [tensors[at].storage_offset if at >= 0 else None for at in self._tree.tensor]
        return np.array([np.nan if offset is None else offset for offset in offsets], np.float64)

    @cached_property
    def _is_leaf(self) -> NDArray[np.bool_]:
        import numpy as np

        leaf: NDArray[np.bool_] = np.array(self._tree.tensor, np.int64) >= 0
        return leaf

    @cached_property
    def _holding(self) -> Floats:
        """For each row how many tensors are at and below it."""
        import numpy as np

        return self._sums(self._counted.astype(np.float64))

    @property
    def _missing(self) -> Floats:
        """For each row how many tensors at and below it are not known: not yet, computed, or not to be read."""
        import numpy as np

        from sdviewer.stats.table import KNOWN

        known = np.zeros(len(self._tree), bool)
        known[self._rows] = self._file.table["state"][self._tensor[self._rows]] == KNOWN
        return self._sums((self._counted & ~known).astype(np.float64))

    def _measured(self, name: str) -> Floats:
        """One number of each tensor, at its row."""
        import numpy as np

        column = self._file.table[_FIELDS.get(name, name)]
        values = np.full(len(self._tree), np.nan)
        values[self._rows] = column[self._tensor[self._rows]]
        if column.dtype.kind == "i":
            values[values < 0] = np.nan
        return values

    def _sums(self, values: Floats, of: Any = None) -> Floats:
        """Of each row's subtree, added up or put together by `of`; what is no number counts nothing."""
        import numpy as np

        of = np.add if of is None else of
        # Not by differences of a running sum, in which a large tensor would leave nothing of the small ones behind it.
        sums = np.where(np.isnan(values), 0.0, values)
        for rows, above in self._levels:
            of.at(sums, above, sums[rows])
        return sums

    def _extreme(self, values: Floats, of: Any) -> Floats:
        values = values.copy()
        for rows, above in self._levels:
            of.at(values, above, values[rows])
        return values

    def health(self) -> NDArray[np.uint8]:
        """The marks of all rows; a module has those below it that are worth being told."""
        import numpy as np

        marks = np.zeros(len(self._tree), np.uint8)
        marks[self._rows] = self._file.marks[self._tensor[self._rows]]
        carried = np.where(marks & NOTED, marks, 0).astype(np.uint8)
        for rows, above in self._levels:
            np.bitwise_or.at(carried, above, carried[rows])
        return np.where(self._is_leaf, marks, carried)

    def buffers(self, columns: Sequence[str]) -> dict[str, Any]:
        """The columns of these names as float64, `storage` as texts, and the marks as `health` (uint8)."""
        buffers: dict[str, Any] = {
            f"column {name}": self.column(name).tobytes()
            for name in columns
            if name in ROW_COLUMNS and (self._file.begun or name in ("bytes", "offset"))
        }
        if "storage" in columns:
            buffers |= self._storages
        if self._file.begun:
            buffers["health"] = self.health().tobytes()
        return buffers

    @cached_property
    def _storages(self) -> dict[str, Any]:
        """For each row the place and length of its storage's name in a text."""
        import numpy as np

        blob = bytearray()
        places: dict[str | None, tuple[int, int]] = {None: (0, 0)}
        tensors, storages = self._result.tensors, self._result.storages
        found = np.zeros((len(self._tree), 2), np.uint32)
        for row in np.flatnonzero(self._is_leaf).tolist():
            storage = tensors[self._tree.tensor[row]].storage
            if storage not in places:
                known = storages.get(storage)  # type: ignore[arg-type]
                raw = (known.id if known is not None else str(storage)).encode("utf-8", "surrogatepass")
                places[storage] = (len(blob), len(raw))
                blob += raw
            found[row] = places[storage]
        return {"column storage": found.tobytes(), "storage text": bytes(blob)}

    def of_rows(self, rows: Sequence[int], columns: Sequence[str]) -> list[list[float | None]]:
        """The numbers of some tensors, row by row; None for what is not known."""
        if not rows:
            return []
        if not self._file.begun:
            return [[self._tree.nbytes[row] if name == "bytes" else None for name in columns] for row in rows]
        found = [self.column(name)[list(rows)].tolist() for name in columns]
        return [[None if value != value else value for value in row] for row in zip(*found, strict=True)]

    def sums_of(self, rows: Sequence[int]) -> dict[str, float | None]:
        """Norm, zeros and NaN of rows of which none is below another, each null where one of them has none, or all."""
        sums: dict[str, float | None] = dict.fromkeys(("norm", "zeros", "nan"))
        holding = [row for row in rows if self._holding[row] > 0] if self._file.begun else []
        if holding:
            for name in sums:
                numbers = self.column(name)[holding].tolist()
                whole = math.hypot(*numbers) if name == "norm" else sum(numbers)
                sums[name] = whole if whole == whole else None
        return sums

    # For the filter and the order

    def passing(self, test: NumberTest) -> Sequence[int]:
        """For each tensor of the tree's checkpoint whether it is measured and passes."""
        import numpy as np

        passes = np.zeros(len(self._result.tensors), bool)
        if self._file.begun:
            found = self._passing(test)
            passes[: len(found)] = found[: len(passes)]
        return passes.tobytes()

    def _passing(self, test: NumberTest) -> NDArray[np.bool_]:
        import numpy as np

        from sdviewer.stats.table import KNOWN

        table = self._file.table
        if not test.sign:
            marked: NDArray[np.bool_] = self._file.marks & _WORDS[test.what] != 0
            return marked
        values = table["posinf"] + table["neginf"] if test.what == "inf" else table[_FIELDS.get(test.what, test.what)]
        there = (table["state"] == KNOWN) & ~((values < 0) if values.dtype.kind == "i" else np.isnan(values))
        numbers = values.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            if test.share:
                numbers = numbers / table["count"]
            compared: NDArray[np.bool_] = there & _COMPARE[test.sign](numbers, test.limit)
        return compared

    def sort_keys(self, column: str, descending: bool) -> Sequence[float | None]:
        """The numbers of a column; a module that has none of its own goes by the first below it in that order."""
        import numpy as np

        if column == "storage":
            tensors = self._result.tensors
            return [tensors[at].storage if at >= 0 else None for at in self._tree.tensor]  # type: ignore[misc]
        if column not in ROW_COLUMNS:
            return [None] * len(self._tree)
        values = self.column(column)
        if column in ("mean", "std", "offset"):
            values = self._extreme(values, np.fmax if descending else np.fmin)
        return [None if value != value else value for value in values.tolist()]


_COMPARE: Final[Mapping[str, Callable[[Any, float], Any]]] = {
    "<": lambda numbers, limit: numbers < limit,
    ">": lambda numbers, limit: numbers > limit,
    "<=": lambda numbers, limit: numbers <= limit,
    ">=": lambda numbers, limit: numbers >= limit,
    "=": lambda numbers, limit: numbers == limit,
}


def _marks(table: StatisticsTable, weight: NDArray[np.bool_], matrix: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The health of each tensor. Worth being told (`NOTED`) are NaN, infinities and, outside of an optimizer, what no
    training leaves: a matrix of floats that is all zero or constant, and a value far from all others.

    A vector that is zero or constant is marked only: biases begin as zeros and norms as ones.
    """
    import numpy as np

    from sdviewer.stats.table import KNOWN

    known = table["state"] == KNOWN
    zero = known & (table["zeros"] == table["count"]) & (table["count"] > 1)
    constant = known & (table["constant"] != 0)
    nan = known & (table["nan"] > 0)
    infinite = known & ((table["posinf"] > 0) | (table["neginf"] > 0))
    outlier = known & weight & _outliers(table)
    noted = nan | infinite | outlier | (weight & matrix & (zero | constant))
    marks = np.zeros(len(table), np.uint8)
    bits = ((NAN, nan), (INF, infinite), (ZERO, zero), (CONSTANT, constant), (OUTLIER, outlier), (NOTED, noted))
    for bit, where in bits:
        marks[where] |= bit
    return marks


def _outliers(table: StatisticsTable) -> NDArray[np.bool_]:
    """Tensors with a value of more than `OUTLIER_FROM` times the mean magnitude of the others that are not zero."""
    import numpy as np

    finite = table["count"] - table["nan"] - table["posinf"] - table["neginf"]
    others = finite - table["zeros"] - 1
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        largest = np.fmax(np.abs(table["min"]), np.abs(table["max"]))
        rest = (table["absmean"] * finite - largest) / others
        # Where it is the whole sum, nothing is left of the others but what rounding makes of them.
        found: NDArray[np.bool_] = (others >= FEWEST - 1) & (largest > OUTLIER_FROM * np.fmax(rest, 0.0))
    return found


def _findings(marks: int, row: Mapping[str, Any], where: str) -> Iterator[Problem]:
    """What is worth being told about one tensor."""
    count = int(row["count"])
    if marks & NAN:
        yield Problem("warning", "nan", f"{_share(row['nan'], count)} NaN", where)
    if marks & INF:
        yield Problem("warning", "infinite", f"{_share(row['posinf'] + row['neginf'], count)} infinite", where)
    if marks & ZERO:
        yield Problem("warning", "all_zero", f"all {text.plural(count, 'value')} are zero", where)
    elif marks & CONSTANT:
        yield Problem("warning", "constant", f"all {text.plural(count, 'value')} are {text.value(row['min'])}", where)
    if marks & OUTLIER:
        largest = max(row["min"], row["max"], key=abs)
        words = f"one value is {text.value(largest)}, and the mean magnitude {text.value(row['absmean'])}"
        yield Problem("warning", "outlier", words, where)


def _share(n: int, count: int) -> str:
    return f"{text.count(n)} of {text.plural(count, 'value')} {'is' if n == 1 else 'are'}"

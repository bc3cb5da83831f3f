"""What adapters make of a weight, in NumPy: the same numbers in `repair` and in a program that a recipe became.

Products are added up rank by rank, so that they are the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sdviewer.repair.adapter_kinds import LENGTHS, Change, Matrix

AT_ONCE = 1 << 20
"""Elements of a weight that are computed at once."""


def merge_in_place(weight: Any, changes: Sequence[Change], parts: Sequence[Any]) -> Any:
    """A weight after all changes, one after the other; `parts` are those of all of them.

    All are NumPy arrays of float64, or all of complex128, and the weight lies row by row.
    """
    left = list(parts)
    for change in changes:
        own = {part: left.pop(0) for part in change.parts}
        change_in_place(weight.T if change.turned else flat(weight), change, own)
    return weight


def change_in_place(matrix: Any, change: Change, parts: Mapping[str, Any]) -> None:
    """A matrix `(out_features, in_features times the kernel)` after one change, some rows at once."""
    factor = change.factor
    if change.scaled:
        factor = factor * float(parts["alpha"].reshape(-1)[0].real)
    factors = [factors_of(one, parts) for one in change.kind.matrices]
    if change.kind.joined == "kron":
        factors = [Factors(one.all_rows()) for one in factors]
    lengths: Any = next((parts[part].reshape(-1) for part in LENGTHS if part in parts), None)
    squares = np.zeros(matrix.shape[1])
    rows = max(1, AT_ONCE // max(1, matrix.shape[1], *[one.widest for one in factors]))
    for first in range(0, len(matrix), rows):
        some = matrix[first : first + rows]
        some += delta(change.kind.joined, factors, first, len(some)) * factor
        if change.axis == 0:
            norms = np.sqrt(np.square(np.abs(some)).sum(axis=1))
            some *= ratio(lengths[first : first + rows], norms)[:, None]
        elif change.axis == 1:
            squares += np.square(np.abs(some)).sum(axis=0)
    if change.axis == 1:
        kernel = len(squares) // max(1, len(lengths))
        norms = np.sqrt(squares.reshape(len(lengths), kernel).sum(axis=1))
        matrix *= np.repeat(ratio(lengths, norms), kernel)


class Factors(NamedTuple):
    """A matrix: `left` is it, or `(rows, rank)` with `right` `(rank, columns)` and perhaps what is `between` these."""

    left: Any
    right: Any = None
    between: Any = None

    @property
    def widest(self) -> int:
        """Elements of a row of what is computed on the way to a row of the matrix."""
        return 1 if self.between is None else math.prod(self.between.shape[1:])

    def rows(self, first: int, count: int) -> Any:
        """`count` rows from the row `first`."""
        some = self.left[first : first + count]
        if self.right is None:
            return some
        if self.between is None:
            return product(some, self.right)
        inner = product(some, flat(self.between)).reshape(len(some), len(self.right), -1)
        made = np.zeros((len(some), self.right.shape[1], inner.shape[2]), some.dtype)
        for rank, right in enumerate(self.right):
            made += right[:, None] * inner[:, rank, None, :]
        return flat(made)

    def all_rows(self) -> Any:
        """The whole matrix."""
        rows = max(1, AT_ONCE // self.widest)
        return np.concatenate([self.rows(first, rows) for first in range(0, max(1, len(self.left)), rows)])


def factors_of(matrix: Matrix, parts: Mapping[str, Any]) -> Factors:
    """The parts of a matrix, as these are multiplied."""
    if matrix.whole in parts:
        return Factors(flat(parts[matrix.whole]))
    left, right, between = flat(parts[matrix.left]), flat(parts[matrix.right]), parts.get(matrix.between)
    return Factors(left.T if between is not None and matrix.turns else left, right, between)


def delta(joined: str, factors: Sequence[Factors], first: int, count: int) -> Any:
    """`count` rows of D from the row `first`."""
    if joined == "kron":
        one, other = (matrix.left for matrix in factors)
        rows = np.arange(first, first + count)
        return flat(one[rows // len(other)][:, :, None] * other[rows % len(other)][:, None, :])
    made = [matrix.rows(first, count) for matrix in factors]
    return made[0] * made[1] if joined == "times" else made[0]


def product(left: Any, right: Any) -> Any:
    """The product of two matrices, rank by rank."""
    made = np.zeros((len(left), right.shape[1]), left.dtype)
    for rank in range(len(right)):
        made += left[:, rank : rank + 1] * right[rank : rank + 1]
    return made


def flat(array: Any) -> Any:
    """The same elements as rows, one for each place of the first dimension."""
    return array.reshape(len(array), math.prod(array.shape[1:]))


def ratio(lengths: Any, norms: Any) -> Any:
    """How much longer each is to be; what has no direction stays as it is."""
    return np.divide(lengths, norms, out=np.ones_like(lengths), where=norms != 0)

"""What tells two tensors apart, pair by pair, as columns: one array a number, one entry a pair.

The pairs are those of a comparison (`core.pairing`), in its order; a pair that only one side has stands among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from sdviewer.stats.table import NOT_YET, Columns, ColumnTable, no_numbers

NOTHING: Final = 3
"""A `state` beside those of `stats.table`: there is nothing to measure, as one side is missing or shapes differ."""

STATUSES: Final = ("", "identical", "close", "changed", "shape", "dtype", "only_a", "only_b")
"""The words of `docs/cli.md` by the code in `status`; 0 where only the bytes can tell."""

CASTS: Final = ("", "equal", "rounded_b", "rounded_a")
"""By the code in `cast`, of two element types: the values differ; all are equal; B's are A's rounded to B's type; A's
are B's rounded to A's type."""

COLUMNS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "state": "u1",
        "status": "u1",
        "cast": "u1",
        "close": "u1",
        "nonfinite_differs": "u1",
        "count": "i8",
        "finite": "i8",
        "changed": "i8",
        "sign_flips": "i8",
        "nan_a": "i8",
        "nan_b": "i8",
        "inf_a": "i8",
        "inf_b": "i8",
        "max_at": "i8",
        "max_abs": "f8",
        "mean_abs": "f8",
        "rel_l2": "f8",
        "cosine": "f8",
        "changed_share": "f8",
        "norm_a": "f8",
        "norm_b": "f8",
        "norm_d": "f8",
        "dot": "f8",
    }
)
"""Name -> NumPy type. -1 stands for a count and NaN for a number that there is not.

`status` and `cast` are codes of `STATUSES` and `CASTS`. `close`: a tolerance was given and all values are within it.
`nonfinite_differs`: NaN or infinity on one side has no like on the other. `count`: values of the tensor; `finite`: how
many are finite on both sides, which all that follows is over except the `nan` and `inf` counts of each side. `changed`:
values that differ; `changed_share` is that over `finite`. `sign_flips`: values that went through zero. `max_abs`,
`mean_abs`: of |b - a|; `max_at`: the first place of the largest, counted in row-major order, -1 where it is 0.
`rel_l2`: ||b - a|| / ||a||, infinite where A is zero and B is not. `norm_a`, `norm_b`, `norm_d`: ||a||, ||b|| and
||b - a||; `dot` is the sum of a times b, of complex values its real part: with these several tensors are taken as one.

Of identical tensors only bytes are compared: there `nan_a`, `nan_b`, `inf_a`, `inf_b`, the norms and `dot` are not
known, but `norm_d` is 0."""


def none_compared(number: int) -> Columns:
    """The columns of so many pairs of which nothing is known."""
    return no_numbers(COLUMNS, number)


class PairTable(ColumnTable):
    """The columns of all pairs of a comparison; an index is one into its pairs."""

    kinds = COLUMNS

    def __init__(self, statuses: Sequence[str]) -> None:
        """Of what the headers tell: a word of `STATUSES` a pair, "" where the bytes decide."""
        super().__init__(len(statuses))
        code = {word: number for number, word in enumerate(STATUSES)}
        self._columns["status"][:] = [code[word] for word in statuses]
        self._columns["state"][:] = [NOT_YET if word in ("", "dtype") else NOTHING for word in statuses]

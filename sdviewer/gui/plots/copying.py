"""Values as text for the clipboard: exact, ASCII, in a form a program can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MOST_COPIED: Final = 50_000
"""Values that are copied at once; more are exported."""

_NUMPY: Final = {
    "float64": "float64",
    "float16": "float16",
    "bool": "bool",
    "complex64": "complex64",
    "complex128": "complex128",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""NumPy's types by torch's names; what NumPy lacks is written as float32, in which it is exact."""
_WORDS: Final = {"nan": "np.nan", "inf": "np.inf", "-inf": "-np.inf"}


def _literal(exact: str) -> str:
    """A value as Python reads it, where NumPy's name for it is np."""
    if "nan" in exact or "inf" in exact:
        return _WORDS.get(exact) or f'complex("{exact}")'
    return exact


def as_table(texts: Sequence[str], columns: int) -> str:
    """Rows of lines, columns with tabs between; one value alone is just that."""
    rows = [texts[start : start + columns] for start in range(0, len(texts), max(columns, 1))]
    return "\n".join("\t".join(row) for row in rows)


def as_numpy(texts: Sequence[str], columns: int, dtype: str) -> str:
    """An expression that makes the array; a single column is a vector, a single value a scalar of its type."""
    made = [_literal(exact) for exact in texts]
    kind = _NUMPY.get(dtype) or ("float32" if not made or not made[0].startswith("0x") else "uint64")
    name = "np.bool_" if kind == "bool" else f"np.{kind}"
    if len(made) == 1:
        return f"{name}({made[0]})"
    if columns == 1 or columns == len(made):
        return f"np.array([{', '.join(made)}], dtype={name})"
    rows = [f"[{', '.join(made[start : start + columns])}]" for start in range(0, len(made), columns)]
    return f"np.array([{(',' + chr(10) + ' ' * 10).join(rows)}], dtype={name})"

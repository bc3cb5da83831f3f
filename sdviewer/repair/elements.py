"""One number of a recipe as an element of a dtype, exact or rounded on demand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sdviewer.core.arrays import array_type
from sdviewer.core.dtypes import DTYPES
from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.fields import Scalar, fits_64_bits
from sdviewer.repair.transforms import Cast
from sdviewer.repair.wording import quoted

if TYPE_CHECKING:
    from numpy.typing import NDArray

_POWERS = "float8_e8m0fnu"
"""A float type that has no zero and no sign."""
_PARTS = {"complex128": "float64", "complex64": "float32"}


def number(value: Scalar) -> int | float | complex:
    """The number that a recipe's value means.

    Raises:
        UsageError: a text that is no number, or an integer of more than 64 bits.
    """
    if isinstance(value, int) and not fits_64_bits(value):
        raise UsageError("it is an integer of more than 64 bits", remedy="Write it as 1e30.")
    if not isinstance(value, str):
        return value
    for read in (float, complex):
        try:
            found = read(value)
        except ValueError:
            continue
        if "inf" not in value.lower() and math.inf in map(abs, (found.real, found.imag)):
            raise UsageError(f"{quoted(value)} is larger than a number can be", remedy='Write "inf" for infinity.')
        return found
    raise UsageError(f"{quoted(value)} is no number", remedy='Write a number, "nan", "inf", "-inf" or "1+2j".')


def element(value: Scalar, dtype: str, *, rounded: bool = False) -> bytes:
    """The bytes of a value in a dtype that has values, in this machine's order.

    `rounded`: the nearest one will do where the dtype does not have it (a whole one of integers, ties to even).

    Raises:
        RepairError: the dtype does not hold it.
        UsageError: it is no number.
    """
    return _element(number(value), dtype, rounded).tobytes()


def exact(raw: bytes, dtype: str) -> Scalar:
    """The number that the bytes of an element are, as a recipe holds it; `element` makes the same bytes of it."""
    import numpy as np

    array = np.frombuffer(raw, array_type(dtype))
    if array.dtype.kind == "c":
        whole = complex(array[0])
        plain = whole.imag == 0 and math.copysign(1, whole.imag) == 1
        return exact(array[:1].real.tobytes(), _PARTS[dtype]) if plain else str(whole).strip("()")
    if DTYPES[dtype].kind == "float":
        found = float(array.astype(np.float64)[0])
        return found if math.isfinite(found) else str(found)
    return bool(array[0]) if DTYPES[dtype].kind == "bool" else int(array[0])


def zero(dtype: str) -> bytes:
    """The bytes of zero, in every dtype that has one.

    Raises:
        RepairError: it has none.
    """
    if dtype == _POWERS:
        raise _cannot(0, dtype, "which holds powers of two")
    return bytes(DTYPES[dtype].itemsize)


def largest(dtype: str) -> float:
    """The largest finite number of a float type."""
    import ml_dtypes

    return float(ml_dtypes.finfo(array_type(dtype)).max)


def _element(value: complex, dtype: str, rounded: bool) -> NDArray[Any]:
    import numpy as np

    kind = DTYPES[dtype].kind
    if kind == "complex":
        parts = [_element(part, _PARTS[dtype], rounded) for part in (value.real, value.imag)]
        return np.concatenate(parts).view(array_type(dtype))
    if isinstance(value, complex):
        if value.imag:
            raise _cannot(value, dtype, "which has no imaginary part")
        value = value.real
    if kind == "float":
        if value == 0 and dtype == _POWERS:
            raise _cannot(value, dtype, "which holds powers of two")
        return _floating(value, dtype, rounded)
    if not math.isfinite(value) or (value != int(value) and not rounded):
        raise _cannot(value, dtype, "which holds whole numbers", "Write round = true for the nearest.")
    whole = round(value)
    lowest, highest = (0, 1) if kind == "bool" else _range(dtype)
    if not lowest <= whole <= highest:
        raise _cannot(value, dtype, f"which holds {lowest} to {highest}")
    return np.array([whole], array_type(dtype))


def _range(dtype: str) -> tuple[int, int]:
    import numpy as np

    known = np.iinfo(array_type(dtype))
    return int(known.min), int(known.max)


def _floating(value: float, dtype: str, rounded: bool) -> NDArray[Any]:
    import numpy as np

    limit = largest(dtype)
    if math.isfinite(value) and (abs(value) > limit or (value < 0 and dtype == _POWERS)):
        raise _cannot(
            value, dtype, f"whose largest is {limit:.6g}" if value > 0 or dtype != _POWERS else "which has no sign"
        )
    found = Cast(dtype).compute([np.array([value], np.float64)])
    back = float(found.astype(np.float64)[0])
    same = back == value or (math.isnan(back) and math.isnan(value))
    if same and value == 0 and math.copysign(1, back) != math.copysign(1, value):
        same = rounded
    if not same and not (rounded and math.isfinite(value)):
        nearest = f"The nearest is {back!r}: write that, or round = true." if math.isfinite(value) else ""
        raise _cannot(value, dtype, "exactly" if math.isfinite(value) else "at all", nearest)
    return found


def _cannot(value: complex, dtype: str, why: str, remedy: str = "") -> RepairError:
    joined = f", {why}" if why.startswith("wh") else f" {why}"
    return RepairError(f"{value} cannot be held by {dtype}{joined}", remedy=remedy)

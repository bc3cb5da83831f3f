"""NumPy types for what a checkpoint stores; NumPy itself is imported when the first array is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sdviewer.core.dtypes import DTYPES

if TYPE_CHECKING:
    import numpy as np


def array_type(dtype: str) -> np.dtype[Any]:
    """The NumPy type whose values are those of a stored element, in this machine's byte order.

    A type that NumPy and ml_dtypes lack (complex32, quantized ones packed, bits) is an unsigned integer of its size: it
    can be moved about and not computed with. Sub-byte types are their bytes.
    """
    import numpy as np

    known = DTYPES[dtype]
    if known.kind == "bool":
        return np.dtype(np.bool_)
    if known.per_byte == 1 and known.numpy[:1] in ("<", "|"):
        return np.dtype(known.numpy).newbyteorder("=")
    if known.per_byte == 1 and known.kind == "float":
        import ml_dtypes

        small: np.dtype[Any] = np.dtype(getattr(ml_dtypes, known.numpy))
        return small
    return np.dtype(f"u{known.itemsize}")


def has_values(dtype: str) -> bool:
    """Whether `array_type` holds the type's values, so that one can compute with them."""
    known = DTYPES.get(dtype)
    return known is not None and known.kind in ("float", "int", "uint", "bool", "complex") and dtype != "complex32"

"""What plots read out of answers and facts."""

from __future__ import annotations

from collections.abc import Sequence

from sdviewer.core import text
from sdviewer.core.dtypes import DTYPES
from sdviewer.gui.plots.plot import Facts


def floats(buffer: memoryview) -> list[float]:
    """A buffer of float64, of at most a few thousand, as a list."""
    return list(memoryview(buffer).cast("B").cast("d"))


def whole_numbers(buffer: memoryview) -> list[int]:
    """A buffer of int64, of at most a few thousand, as a list."""
    return list(memoryview(buffer).cast("B").cast("q"))


def with_zeros(edges: Sequence[float], counts: Sequence[int], zeros: int) -> list[int]:
    """Counts in bins, where exact zeros are in none, with these in the bin of zero."""
    at = next((i for i in range(len(counts)) if edges[i] <= 0 < edges[i + 1]), None)
    return [count + zeros if i == at else count for i, count in enumerate(counts)]


def has_values(facts: Facts) -> bool:
    """Whether single values of a tensor can be read: those of a type that only its container knows cannot."""
    source = facts.get("source")
    if not source:
        return False
    return (source.get("layout") or {}).get("opaque") is None


def has_numbers(facts: Facts) -> bool:
    """Whether the values of a tensor can be read and are numbers, and there are some."""
    dtype = DTYPES.get(str(facts.get("dtype")))
    return has_values(facts) and (dtype is None or dtype.kind != "bits") and 0 not in (facts.get("shape") or ())


def called(facts: Facts, most: int) -> str:
    """The key of a tensor, or else its name, as it is shown; at most `most` characters."""
    return text.visible(str(facts.get("key") or facts.get("name") or "tensor"), most)


def long_axes(facts: Facts) -> list[int]:
    """The dimensions of more than one index."""
    return [axis for axis, size in enumerate(facts.get("shape") or ()) if size > 1]

"""The numbers of one tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.stats.moments import Part, merge
from sdviewer.stats.sweep import Sweep, sweep


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts and moments of a tensor's values.

    `count` is the number of all values (two a byte for float4). What follows `zeros` is over the finite values and None
    when there are none; `min` and `max` are exact ints for integers and bool. `std` is the population's. Complex values
    are taken by their magnitude. For bits types everything but `count` is None.
    """

    count: int
    nan: int | None = None
    posinf: int | None = None
    neginf: int | None = None
    zeros: int | None = None
    min: int | float | None = None
    max: int | float | None = None
    mean: float | None = None
    std: float | None = None
    absmean: float | None = None
    l2: float | None = None

    @property
    def finite(self) -> int:
        """How many values are neither NaN nor infinite; 0 for bits types."""
        return 0 if self.nan is None else self.count - self.nan - (self.posinf or 0) - (self.neginf or 0)

    def to_json(self) -> dict[str, int | float | str | None]:
        """The fields as JSON values; an `l2` beyond float64 is "inf"."""
        fields: dict[str, int | float | str | None] = {name: getattr(self, name) for name in self.__slots__}
        if self.l2 == math.inf:
            fields["l2"] = "inf"
        return fields


def summary(source: ByteSource, layout: TensorLayout, *, progress: Progress = no_progress) -> Summary:
    """Count and sum all values of a tensor in one pass over its stored elements. Progress is in bytes.

    Raises:
        CorruptCheckpoint: the bytes are not there.
    """
    return summary_of(sweep(source, layout, progress=progress))


def summary_of(result: Sweep) -> Summary:
    """The numbers for a person of what a sweep found."""
    if result.opaque:
        return Summary(result.count)
    whole, squares = merge(result.parts)
    times = result.repeats
    nan, posinf, neginf, zeros = (times * n for n in (whole.nan, whole.posinf, whole.neginf, whole.zeros))
    if not whole.finite:
        return Summary(result.count, nan, posinf, neginf, zeros)
    return Summary(
        result.count,
        nan,
        posinf,
        neginf,
        zeros,
        whole.low,
        whole.high,
        whole.mean,
        _scaled(math.sqrt(whole.squares / whole.finite), whole),
        whole.absolute,
        _scaled(math.sqrt(squares) * math.sqrt(times), whole),
    )


def _scaled(value: float, whole: Part) -> float:
    try:
        return math.ldexp(value, whole.exponent)
    except OverflowError:
        return math.inf

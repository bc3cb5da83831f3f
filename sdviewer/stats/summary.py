"""The numbers of one tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.stats.sweep import Sweep, sweep


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts and moments of a tensor's values.

    `count` is the number of all values (two a byte for float4). What follows `zeros` is over the finite values and None
    when there are none; `min` and `max` are exact ints for integers and bool. `std` is the population's. Complex values
    are taken by their magnitude. `median` is the mean of the middle two when their number is even. `kurtosis` is the
    excess: 0 for a normal distribution, None when all values are equal. `tiny` are nearer to zero than 1e-6, zeros
    included; `outliers` are further than 6 std from the mean. For bits types everything but `count` is None.
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
    median: int | float | None = None
    kurtosis: float | None = None
    tiny: int | None = None
    outliers: int | None = None

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


def summary(
    source: ByteSource, layout: TensorLayout, *, median: bool = True, progress: Progress = no_progress
) -> Summary:
    """Count and sum all values of a tensor. Progress is in bytes.

    Without the `median` the stored elements are read once, and those parts twice that have outliers.

    Raises:
        CorruptCheckpoint: the bytes are not there.
    """
    return summary_of(sweep(source, layout, median=median, progress=progress))


def summary_of(result: Sweep) -> Summary:
    """The numbers for a person of what a sweep found."""
    if result.opaque:
        return Summary(result.count)
    whole, times = result.whole, result.repeats
    nan, posinf, neginf, zeros = (times * n for n in (whole.nan, whole.posinf, whole.neginf, whole.zeros))
    found, ranks = result.moments, result.ranks
    if found is None or ranks is None:
        return Summary(result.count, nan, posinf, neginf, zeros)
    return Summary(
        result.count,
        nan,
        posinf,
        neginf,
        zeros,
        whole.low,
        whole.high,
        found.mean,
        found.std,
        found.absmean,
        found.l2 * math.sqrt(times),
        ranks.median,
        found.kurtosis,
        times * whole.tiny,
        times * ranks.outliers,
    )

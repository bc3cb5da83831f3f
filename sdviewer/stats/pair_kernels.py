"""The loop that compares two blocks value by value, compiled by numba: all about a piece while it is in the cache.

As in `kernels`: where numba is missing, NumPy does the same (`pair_sums`) at a tenth of the speed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from sdviewer.stats import kernels
from sdviewer.stats.decode import Array, Block, Reader
from sdviewer.stats.moments import WIDE
from sdviewer.stats.pair_sums import PairSums, Tolerance, all_apart, measure

PIECE = 4096
"""Elements of both sides that are gone through together: they stay in the first-level cache between two loops."""

WORTH = 64 << 20
"""Bytes of all that is to be compared from which the loops are worth their loading."""

Kernel = Callable[..., float]


@dataclass(frozen=True, slots=True)
class PairKernels:
    """The compiled loops: `_compare` for float32 and float64, and `_widen`."""

    compare32: Kernel
    compare64: Kernel
    widen: Callable[[Array, Array], None]


def load() -> PairKernels | None:
    """The compiled loops, or None where numba does not work; compiles on the first call of the first run."""
    with _loading:
        return _load()


_loading = threading.Lock()


@lru_cache(maxsize=1)
def _load() -> PairKernels | None:
    summing, plain = kernels.compiler({"reassoc", "nsz", "contract"}), kernels.compiler()
    if summing is None or plain is None:
        return None
    narrowest, widest = kernels.bits_of(1 / WIDE, "f8"), kernels.bits_of(WIDE, "f8")
    return PairKernels(
        # Squares of float32 are float64 numbers, whatever their size.
        summing(_compare(np.int32, 0x7FFFFFFF, 0, 0x7F800000)),
        summing(_compare(np.int64, 2**63 - 1, narrowest, widest)),
        plain(_widen),
    )


def _compare(integer: Any, magnitude: int, smallest: int, largest: int) -> Kernel:
    """The loop for one float type, told by its bits: `magnitude` masks the sign.

    It returns the largest |b - a|, or -1 with nothing done when a block holds a magnitude of `largest` or more (NaN and
    infinity among them) or none but such below `smallest`. `counts` gets how many values changed, went through zero and
    are outside of the tolerance, and where the piece begins that has the first of the largest; `sums` gets what
    `PairSums` calls absolute to dot. The largest is taken of the bits as integers, as the processor has no vector
    maximum of floats that heeds NaN.
    """
    magnitude, smallest, largest = integer(magnitude), integer(smallest), integer(largest)
    none = integer(0)

    def compare(a: Any, b: Any, bits_a: Any, bits_b: Any, atol: float, rtol: float, counts: Any, sums: Any) -> float:
        widest: Any = none
        most: Any = np.int64(0)
        where: Any = 0
        changed: Any = 0
        flips: Any = 0
        outside: Any = 0
        absolute, differences, squares_a, squares_b, dot = 0.0, 0.0, 0.0, 0.0, 0.0
        for start in range(0, a.size, PIECE):
            end = min(a.size, start + PIECE)
            codes_a, codes_b = bits_a[start:end], bits_b[start:end]
            part_a, part_b = a[start:end], b[start:end]
            differ, turned = none, none
            for i in range(codes_a.size):
                one, other = codes_a[i], codes_b[i]
                size_a, size_b = one & magnitude, other & magnitude
                widest = max(widest, max(size_a, size_b))
                # 0.0 and -0.0 are equal.
                differ += integer((one != other) & ((size_a | size_b) != none))
                turned += integer(((one ^ other) < none) & (size_a != none) & (size_b != none))
            if widest >= largest:
                return -1.0
            changed += differ
            flips += turned
            before = most
            linear, apart, long_a, long_b, product = 0.0, 0.0, 0.0, 0.0, 0.0
            for i in range(part_a.size):
                x, y = np.float64(part_a[i]), np.float64(part_b[i])
                d = y - x
                size = abs(d)
                linear += size
                apart += d * d
                long_a += x * x
                long_b += y * y
                product += x * y
                most = max(most, np.float64(size).view(np.int64))
            where = start if most > before else where
            # Sums of sums: each has few terms, so that little is lost by rounding.
            absolute += linear
            differences += apart
            squares_a += long_a
            squares_b += long_b
            dot += product
            if atol + rtol > 0:
                for i in range(part_a.size):
                    x = np.float64(part_a[i])
                    outside += np.int64(abs(np.float64(part_b[i]) - x) > atol + rtol * abs(x))
        if none < widest < smallest:
            return -1.0
        counts[0], counts[1], counts[3] = changed, flips, where
        counts[2] = outside if atol + rtol > 0 else changed
        sums[0], sums[1], sums[2], sums[3], sums[4] = absolute, differences, squares_a, squares_b, dot
        return float(np.int64(most).view(np.float64))

    return compare


def _widen(codes: Any, wide: Any) -> None:
    """The bits of float32 for those of float16; NumPy takes six times as long, and fifteen times for the smallest."""
    for i in range(codes.size):
        code = np.uint32(codes[i])
        size = (code & np.uint32(0x7FFF)) << np.uint32(13)
        # The exponents differ by 112; what has none becomes what it stands for too.
        value = np.float32(np.uint32(size).view(np.float32) * np.float32(2.0**112)).view(np.uint32)
        value = size | np.uint32(0x7F800000) if size >= np.uint32(0x0F800000) else value
        wide[i] = value | ((code & np.uint32(0x8000)) << np.uint32(16))


def values_of(reader: Reader, block: Block, loops: PairKernels | None) -> Array:
    """The values of a block in one row, as `Reader.values` has them."""
    if loops is None or not reader.plain_half:
        return np.ascontiguousarray(reader.values(block)).reshape(-1)
    codes = np.ascontiguousarray(reader.stored(block)).reshape(-1).view(np.uint16)
    wide = np.empty(codes.size, np.uint32)
    loops.widen(codes, wide)
    return wide.view(np.float32)


def compared(a: Array, b: Array, tolerance: Tolerance, loops: PairKernels | None) -> PairSums:
    """`pair_sums.measure` by the compiled loop where there is one for these values."""
    if loops is None or a.dtype != b.dtype or a.dtype.kind != "f":
        return measure(a, b, tolerance)
    integer = np.dtype(f"i{a.itemsize}")
    counts, sums = np.empty(4, np.int64), np.empty(5)
    kernel = loops.compare32 if a.itemsize == 4 else loops.compare64
    most = kernel(a, b, a.view(integer), b.view(integer), tolerance.absolute, tolerance.relative, counts, sums)
    if most < 0:
        return measure(a, b, tolerance)
    changed, flips, outside, where = counts.tolist()
    piece = slice(where, where + PIECE)
    at = where + int(all_apart(a[piece], b[piece], most)[0]) if most else -1
    absolute, differences, squares_a, squares_b, dot = sums.tolist()
    return PairSums(
        a.size, a.size, changed=changed, flips=flips, outside=outside, most=most, at=at, absolute=absolute,
        differences=differences, squares_a=squares_a, squares_b=squares_b, dot=dot,
    )  # fmt: skip

"""The loops that look at every value, compiled by numba: everything about a block while it is in the core's cache.

numba is imported on the first large tensor, or when many small ones have been measured, not before, and what it
compiled is kept in the user's cache folder. Where numba or that folder is missing, NumPy does the same work with the
same counts, and sums that are the same but for rounding, at a tenth of the speed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from sdviewer.stats.decode import Array
from sdviewer.stats.moments import TINY, WIDE

SUB_BLOCK = 8192
"""Elements that are gone through together: they stay in the first-level cache between one loop and the next."""

CHUNK = 64
"""Elements that are looked at again together: few of these hold any that are looked for, and only those are gone
through one by one. The compiler makes the loop over them wide for a number like this, and not for one like 48."""

Kernel = Callable[..., int]


@dataclass(frozen=True, slots=True)
class Kernels:
    """The compiled loops.

    `measure32` and `measure64` are `_measure`, `middle32` and `middle64` are `_middle`, `seek32` and `seek64` are
    `_seek`, `far32` and `far64` are `_far`, `bin32` and `bin64` are `_bin`, for float32 and float64; `count` is
    `_count`, `settle` is `settle`.
    """

    measure32: Kernel
    measure64: Kernel
    middle32: Callable[[Array, float, Array, Array], tuple[int, int, int, int, int]]
    middle64: Callable[[Array, float, Array, Array], tuple[int, int, int, int, int]]
    seek32: Callable[[Array, Array, Array], tuple[int, int]]
    seek64: Callable[[Array, Array, Array], tuple[int, int]]
    far32: Callable[[Array, Array], int]
    far64: Callable[[Array, Array], int]
    bin32: Callable[..., None]
    bin64: Callable[..., None]
    count: Callable[[Array, Array], None]
    settle: Callable[..., None]


def loaded() -> Kernels | None:
    """The compiled loops when this process has loaded them already."""
    return load() if load.cache_info().currsize else None


def compiler(fastmath: set[str] | None = None) -> Callable[[Any], Any] | None:
    """What compiles a loop and keeps it in the user's cache folder; None where numba does not work.

    `fastmath` are the liberties that a loop may take with the order and rounding of its sums.
    """
    # numba asks for a place beside the sources, which an installed program cannot write to.
    import platformdirs

    folder = platformdirs.user_cache_path("sdviewer") / "numba"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        keep = os.access(folder, os.W_OK)
    except OSError:
        keep = False
    if keep:
        os.environ.setdefault("NUMBA_CACHE_DIR", str(folder))
    try:
        import numba
    except ImportError:
        return None
    made: Callable[[Any], Any] = numba.njit(nogil=True, cache=keep, fastmath=fastmath or False)
    return made


@lru_cache(maxsize=1)
def load() -> Kernels | None:
    """The compiled loops, or None where numba does not work; compiles on the first call of the first run."""
    plain = compiler()
    # Sums may be taken in any order; nothing may assume that NaN and infinity do not occur.
    summing = compiler({"reassoc", "nsz", "contract"})
    if plain is None or summing is None:
        return None
    narrowest, widest = bits_of(1 / WIDE, "f8"), bits_of(WIDE, "f8")
    return Kernels(
        # The float32 nearest to TINY is below it.
        summing(_measure(np.int32, 0x7FFFFFFF, 0x7F800000, bits_of(TINY, "f4") + 1, 0, 0x7F800000, 31)),
        # Beyond these fourth powers overflow or lose all digits: NumPy scales such a block first.
        summing(_measure(np.int64, 2**63 - 1, 2047 << 52, bits_of(TINY, "f8"), narrowest, widest, 63)),
        plain(_middle(np.int32, 0x7FFFFFFF, 0x7F800000, 31, 20)),
        plain(_middle(np.int64, 2**63 - 1, 2047 << 52, 63, 52)),
        plain(_seek(np.int32)),
        plain(_seek(np.int64)),
        plain(_far(np.int32)),
        plain(_far(np.int64)),
        # While few float32 are added to their bins the next are sorted; of float64 the compiler makes no such loop.
        plain(_bin(128)),
        plain(_bin(SUB_BLOCK)),
        plain(_count),
        plain(settle),
    )


def bits_of(value: float, dtype: str) -> int:
    """The bits of a float."""
    return int(np.array([value], dtype).view(f"i{dtype[1]}")[0])


def _measure(integer: Any, magnitude: int, infinity: int, tiny: int, smallest: int, largest: int, sign: int) -> Kernel:
    """The loop for one float type, told by its bits: `magnitude` masks the sign, `infinity` is where NaN begins.

    It returns the number of zeros, or -1 with nothing done when the block holds NaN or infinity or when its largest
    magnitude is not between `smallest` and `largest`. `extremes` gets minimum and maximum and the number of values
    whose magnitude is below `tiny`, `sums` a number in the midst of the values, the sums of the first four powers of
    their distances from it, and the sum of magnitudes. Minimum and maximum are taken of the bits as ordered integers,
    as the processor has no vector minimum of floats that heeds NaN.
    """
    magnitude, infinity, tiny = integer(magnitude), integer(infinity), integer(tiny)
    smallest, largest, sign = integer(smallest), integer(largest), integer(sign)
    lowest = integer(~magnitude)
    one, none = integer(1), integer(0)

    def measure(values: Any, bits: Any, extremes: Any, sums: Any) -> int:
        n = values.size
        zeros, near, widest = none, none, none
        least, most = magnitude, lowest
        center = 0.0
        first, second, third, fourth, absolute = 0.0, 0.0, 0.0, 0.0, 0.0
        for start in range(0, n, SUB_BLOCK):
            end = min(n, start + SUB_BLOCK)
            codes, part = bits[start:end], values[start:end]
            for i in range(codes.size):
                code = codes[i]
                size = code & magnitude
                zeros += integer(size == none)
                near += integer(size < tiny)
                widest = max(widest, size)
                key = code ^ ((code >> sign) & magnitude)
                least = min(least, key)
                most = max(most, key)
            if widest >= infinity:
                return -1
            if start == 0:
                for i in range(part.size):
                    center += float(part[i])
                center /= part.size
            linear, two, three, four, whole = 0.0, 0.0, 0.0, 0.0, 0.0
            for i in range(part.size):
                v = float(part[i])
                off = v - center
                squared = off * off
                linear += off
                two += squared
                three += squared * off
                four += squared * squared
                whole += abs(v)
            # Sums of sums: each has few terms, so that little is lost by rounding.
            first += linear
            second += two
            third += three
            fourth += four
            absolute += whole
        if widest >= largest or (none < widest < smallest):
            return -1
        # -0.0 counts as 0.0.
        least = none if least == -one else least
        most = none if most == -one else most
        extremes[0] = least ^ ((least >> sign) & magnitude)
        extremes[1] = most ^ ((most >> sign) & magnitude)
        extremes[2] = near
        sums[0], sums[1], sums[2], sums[3], sums[4], sums[5] = center, first, second, third, fourth, absolute
        return int(zeros)

    return measure


def _middle(integer: Any, magnitude: int, infinity: int, sign: int, shift: int) -> Callable[..., Any]:
    """The loop that finds the values near two ranks among those that are finite and not zero, for one float type.

    The first 12 bits of each value as an ordered integer are counted, which tells in what narrow range of values the
    value of a rank lies; only that range is left to sort. The ranks are those that leave out `tail` of the values on
    each side. It fills `lows` and `highs`, each as long as `bits`, and returns how many values are finite, and how many
    values each of both holds and the place that the wanted one has among them when sorted (0 when there is none).
    """
    magnitude, infinity = integer(magnitude), integer(infinity)
    sign, shift = integer(sign), integer(shift)
    none, half, zero, broken = integer(0), integer(2048), integer(4096), integer(4097)

    def middle(bits: Any, tail: float, lows: Any, highs: Any) -> tuple[int, int, int, int, int]:
        buckets = np.empty(bits.size, np.uint16)
        for i in range(bits.size):
            code = bits[i]
            size = code & magnitude
            bucket = ((code ^ ((code >> sign) & magnitude)) >> shift) + half
            bucket = zero if size == none else bucket
            buckets[i] = np.uint16(broken if size >= infinity else bucket)
        counts = np.zeros((2, 2 * half + 2), np.int64)
        for i in range(0, bits.size // 2 * 2, 2):
            counts[0, np.uint64(buckets[i])] += 1
            counts[1, np.uint64(buckets[i + 1])] += 1
        if bits.size % 2:
            counts[0, np.uint64(buckets[bits.size - 1])] += 1
        finite = bits.size - counts[0, broken] - counts[1, broken]
        n = finite - counts[0, zero] - counts[1, zero]
        if n == 0:
            return finite, 0, 0, 0, 0
        first, last = math.floor(tail * (n - 1)), math.ceil((1 - tail) * (n - 1))
        low, lower, high, higher, below = 0, 0, 0, 0, 0
        for bucket in range(zero):
            here = counts[0, bucket] + counts[1, bucket]
            if below <= first < below + here:
                low, lower = bucket, first - below
            if below <= last < below + here:
                high, higher = bucket, last - below
            below += here
        n_lows, n_highs = 0, 0
        for i in range(bits.size):
            if buckets[i] == low:
                lows[n_lows] = bits[i]
                n_lows += 1
            if buckets[i] == high:
                highs[n_highs] = bits[i]
                n_highs += 1
        return finite, n_lows, lower, n_highs, higher

    return middle


def _seek(integer: Any) -> Callable[..., tuple[int, int]]:
    """The loop that takes out the values of a range, for one float type.

    `limits` are the first and the last value of the range. It returns how many values lie before it, minus infinity
    with them, and how many inside it that are not zero; `room`, as long as `values`, gets these.
    """
    none = integer(0)

    def seek(values: Any, limits: Any, room: Any) -> tuple[int, int]:
        low, high = limits[0], limits[1]
        before, inside = 0, np.uint64(0)
        n = values.size
        whole = n // CHUNK * CHUNK
        for start in range(0, whole, CHUNK):
            less, up_to = none, none
            for i in range(start, start + CHUNK):
                v = values[i]
                less += integer(v < low)
                up_to += integer(v <= high)
            before += less
            if up_to != less:
                # Each is written, and stays if it is one of them: no branch that a processor would have to guess.
                for i in range(start, start + CHUNK):
                    v = values[i]
                    room[inside] = v
                    inside += np.uint64((v >= low) & (v <= high) & (v != 0))
        for i in range(whole, n):
            v = values[i]
            before += v < low
            room[inside] = v
            inside += np.uint64((v >= low) & (v <= high) & (v != 0))
        return before, int(inside)

    return seek


def _far(integer: Any) -> Callable[..., int]:
    """The loop that counts finite values far from the mean, for one float type.

    `limits` are the least and the greatest finite value, and those between which a value is not far.
    """
    none = integer(0)

    def far(values: Any, limits: Any) -> int:
        bottom, top, first, last = limits[0], limits[1], limits[2], limits[3]
        found = 0
        n = values.size
        for start in range(0, n, SUB_BLOCK):
            some = none
            for i in range(start, min(n, start + SUB_BLOCK)):
                v = values[i]
                some += integer((v >= bottom) & (v < first)) + integer((v > last) & (v <= top))
            found += some
        return found

    return far


def _bin(together: int) -> Callable[..., None]:
    """The loop that sorts values into bins, so many at a time.

    Slot 0 is below `low` and NaN, 1 to `bins` inside, the next above `high`. They are counted in the four `tallies` by
    turns: adding to the same bin twice in a row would wait for the first. `slots` has room for `SUB_BLOCK`.
    """

    def sort(values: Any, low: float, high: float, scale: float, origin: float, inverse: float, bins: int,
             tallies: Any, slots: Any) -> None:  # fmt: skip
        last = float(bins - 1)
        one, two, three, four = tallies[0], tallies[1], tallies[2], tallies[3]
        whole = values.size // together * together
        for start in range(0, whole, together):
            for i in range(together):
                v = float(values[start + i])
                place = min((v * scale - origin) * inverse, last)
                place = place if v >= low else -1.0
                # One is added after rounding down: added before, it would round up what is just below an edge.
                slots[i] = np.int32(last + 1.0 if v > high else place) + np.int32(1)
            # Unsigned, as numba asks of a signed index each time whether it counts from the end.
            for i in range(0, together, 4):
                one[np.uint64(slots[i])] += 1
                two[np.uint64(slots[i + 1])] += 1
                three[np.uint64(slots[i + 2])] += 1
                four[np.uint64(slots[i + 3])] += 1
        for i in range(whole, values.size):
            v = float(values[i])
            place = min((v * scale - origin) * inverse, last)
            place = place if v >= low else -1.0
            one[np.uint64(np.int32(last + 1.0 if v > high else place) + np.int32(1))] += 1

    return sort


def _count(codes: Any, tallies: Any) -> None:
    """Count each code of 8 or 16 bits."""
    whole = codes.size // 4 * 4
    for i in range(0, whole, 4):
        tallies[0, codes[i]] += 1
        tallies[1, codes[i + 1]] += 1
        tallies[2, codes[i + 2]] += 1
        tallies[3, codes[i + 3]] += 1
    for i in range(whole, codes.size):
        tallies[0, codes[i]] += 1


def settle(edges: Any, slack: float, scale: float, origin: float, inverse: float) -> None:
    """Move each inner edge, off by less than `slack`, to the first value of its bin; also runs as it is, on a list."""
    for i in range(len(edges)):
        before, first = edges[i] - slack, edges[i] + slack
        while True:
            middle = before / 2 + first / 2
            if not before < middle < first:
                break
            if (middle * scale - origin) * inverse >= i + 1:
                first = middle
            else:
                before = middle
        edges[i] = first

"""What the numbers of a tensor are by their definitions, with sums of 106 bits; and tensors to try them on.

`python -m tests.stats.reference [ELEMENTS [WORDS]]` compares the statistics of large tensors of every type with it and
prints the worst difference of each; it ends with 1 when one is off by more than `PRECISION`.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from sdviewer.core.tensor_bytes import TensorLayout, contiguous_stride
from sdviewer.stats.summary import Summary, summary_of
from sdviewer.stats.sweep import sweep
from tests.stats.storages import Storage, array

PRECISION = 1e-12

EXACT = ("count", "nan", "posinf", "neginf", "zeros", "min", "max", "median", "tiny", "outliers")
ROUNDED = ("std", "absmean", "l2")


def reference(values: np.ndarray) -> Summary:
    """The numbers of real values by their definitions."""
    v = values.reshape(-1)
    v = v.view(np.uint8) if v.dtype.kind == "b" else v
    floats = v.dtype.kind == "f"
    finite = v[np.isfinite(v)] if floats else v
    odd = (int(np.isnan(v).sum()), int((v == np.inf).sum()), int((v == -np.inf).sum())) if floats else (0, 0, 0)
    if not finite.size:
        return Summary(v.size, *odd, 0)
    low, high = finite.min().item() + 0, finite.max().item() + 0
    mean, std, kurtosis, absmean, l2 = (_of_floats if floats else _of_integers)(finite)
    ordered = np.sort(finite)
    first, last = ordered[(v_n := finite.size) // 2 - (v_n % 2 == 0)].item(), ordered[v_n // 2].item()
    median = first + 0 if first == last else first / 2 + last / 2 if floats else (first + last) / 2
    if floats:
        wide = finite.astype(np.float64)
        far = (wide > mean + 6 * std) | (wide < mean - 6 * std)
    else:
        middle = _exact_mean(finite)
        near = [value for value in np.unique(finite).tolist() if abs(value - middle) <= 6 * std]
        far = ~np.isin(finite, np.array(near, finite.dtype))
    tiny = int((np.abs(finite.astype(np.float64)) < 1e-6).sum())
    zeros = int((finite == 0).sum())
    return Summary(
        v.size, *odd, zeros, low, high, mean, std, absmean, l2, median, kurtosis, tiny, int(np.count_nonzero(far))
    )


def _exact_mean(values: np.ndarray) -> Fraction:
    found, counts = np.unique(values, return_counts=True)
    return Fraction(sum(n * value for value, n in zip(found.tolist(), counts.tolist(), strict=True)), values.size)


def _of_floats(finite: np.ndarray) -> tuple[float, float, float | None, float, float]:
    """(mean, std, kurtosis, absmean, l2): of values scaled to where no power overflows or vanishes."""
    v, n = finite.astype(np.float64), finite.size
    widest = float(np.abs(v).max())
    exponent = math.frexp(widest)[1] if widest and not 1e-50 < widest < 1e50 else 0
    v = np.ldexp(v, -exponent)
    mean = wide_sum(v) / n
    off = v - mean
    # What the mean was rounded by.
    rest = wide_sum(off) / n
    squares = off * off
    two, three, four = (wide_sum(power) / n for power in (squares, squares * off, squares * squares))
    variance = two - rest**2
    fourth = four - 4 * rest * three + 6 * rest**2 * two - 3 * rest**4
    kurtosis = fourth / variance**2 - 3 if variance else None
    absolute, total = wide_sum(np.abs(v)) / n, wide_sum(v * v)

    def scaled(value: float) -> float:
        try:
            return math.ldexp(value, exponent)
        except OverflowError:
            return math.inf

    return scaled(mean), scaled(math.sqrt(variance)), kurtosis, scaled(absolute), scaled(math.sqrt(total))


def wide_sum(values: np.ndarray) -> float:
    """The sum of float64 as if added in twice their precision, then rounded: `math.fsum` at 25 times its speed.

    Two halves are added element by element until little is left. What each of these additions rounds away is a float64
    itself (Knuth's two-sum) and is added up on the side.
    """
    some, rounded = [], []
    for start in range(0, values.size, 1 << 16):
        part = values[start : start + (1 << 16)]
        while part.size > 1 << 9:
            if part.size % 2:
                some.append(part[-1:])
            first, second = part[: part.size // 2], part[part.size // 2 : part.size // 2 * 2]
            part = first + second
            taken = part - first
            rounded.append(float(np.sum((first - (part - taken)) + (second - taken))))
        some.append(part)
    return math.fsum([*np.concatenate(some).tolist(), *rounded]) if some else 0.0


def _of_integers(values: np.ndarray) -> tuple[float, float, float | None, float, float]:
    """(mean, std, kurtosis, absmean, l2), without any rounding but that of the answer."""
    found, counts = np.unique(values, return_counts=True)
    pairs = list(zip(found.tolist(), counts.tolist(), strict=True))
    n = values.size
    one, two, three, four = (sum(count * value**power for value, count in pairs) for power in (1, 2, 3, 4))
    squares = Fraction(two, n) - Fraction(one, n) ** 2
    fourths = (
        Fraction(four, n)
        - 4 * Fraction(one, n) * Fraction(three, n)
        + 6 * Fraction(one, n) ** 2 * Fraction(two, n)
        - 3 * Fraction(one, n) ** 4
    )
    kurtosis = float(fourths / squares**2) - 3 if squares else None
    absolute = Fraction(sum(count * abs(value) for value, count in pairs), n)
    return float(Fraction(one, n)), math.sqrt(squares), kurtosis, float(absolute), math.sqrt(two)


def differences(found: Summary, expected: Summary) -> dict[str, float]:
    """How far each number is off: relative, the mean against the magnitudes; 1 or more where an exact one differs."""
    off: dict[str, float] = {}
    for name in EXACT:
        off[name] = 0.0 if getattr(found, name) == getattr(expected, name) else 1.0
    if expected.std is None:
        return off | {name: float(getattr(found, name) is not None) for name in (*ROUNDED, "mean", "kurtosis")}
    for name in (*ROUNDED, "mean"):
        one, other = getattr(found, name), getattr(expected, name)
        size = max(abs(other), expected.absmean or 0) if name == "mean" else abs(other)
        # A result among the denormals has few digits.
        off[name] = 0.0 if one == other else abs(one - other) / max(size, 1e-290)
    if (found.kurtosis is None) != (expected.kurtosis is None):
        return off | {"kurtosis": 1.0}
    if found.kurtosis is not None and expected.kurtosis is not None:
        off["kurtosis"] = abs(found.kurtosis - expected.kurtosis) / (expected.kurtosis + 3)
    return off


class Case(NamedTuple):
    """A tensor and its values."""

    name: str
    source: Storage
    layout: TensorLayout
    values: np.ndarray


SMALL_FLOATS = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def cases(n: int) -> Iterator[Case]:
    """Tensors of about `n` elements of every type: ill-conditioned, tiny, huge, broken, and lying in every way."""
    chance = np.random.default_rng(n)
    normal = chance.standard_normal(n)
    for dtype in ("float32", "float64"):
        yield from _floats(dtype, normal, chance)
        yield from _laid(dtype, normal[: n // 24 * 24])
    for name in SMALL_FLOATS:
        small = np.dtype(getattr(ml_dtypes, name, name))
        with np.errstate(over="ignore"):
            stored = (normal * 3).astype(small)
        layout = TensorLayout(name, (n,), (1,), 0)
        yield Case(name, Storage(stored.tobytes()), layout, stored.astype(np.float64))
        bits = chance.integers(0, 256, n * small.itemsize, dtype=np.uint8)
        with np.errstate(invalid="ignore"):  # a signalling NaN
            values = bits.view(small).astype(np.float64)
        yield Case(f"{name}, all bits", Storage(bits.tobytes()), layout, values)
    # Powers of two alone.
    codes = chance.integers(110, 140, n, dtype=np.uint8)
    exponents = codes.view(ml_dtypes.float8_e8m0fnu).astype(np.float64)
    yield Case("float8_e8m0fnu", Storage(codes.tobytes()), TensorLayout("float8_e8m0fnu", (n,), (1,), 0), exponents)
    packed = chance.integers(0, 256, n // 2, dtype=np.uint8)
    halves = np.stack([packed & 15, packed >> 4], axis=1).view(ml_dtypes.float4_e2m1fn).astype(np.float64)
    yield Case("float4", Storage(packed.tobytes()), TensorLayout("float4_e2m1fn_x2", (n // 2,), (1,), 0), halves)
    for name in INTEGERS:
        limits = np.iinfo(name)
        # Few distinct values, so that the reference can be exact.
        some = chance.integers(limits.min, limits.max, 1000, name, endpoint=True)
        yield _whole(f"{name}, whole range", chance.choice(some, n))
        top = np.array(limits.max, name) - chance.integers(0, 100, n).astype(name)
        yield _whole(f"{name}, small spread at the top", top)
    yield _whole("bool", chance.integers(0, 2, n).astype(bool))
    pairs = normal[: n // 2 * 2].reshape(-1, 2)
    for name, half in (("complex128", "f8"), ("complex64", "f4"), ("complex32", "f2")):
        stored = pairs.astype(half)
        magnitudes = np.abs(stored.astype(np.float64).view(np.complex128)).reshape(-1)
        yield Case(name, Storage(stored.tobytes()), TensorLayout(name, (n // 2,), (1,), 0), magnitudes)
    quantized = chance.integers(-128, 128, n).astype(np.int8)
    layout = TensorLayout("qint8", (n,), (1,), 0, scale=0.0173, zero_point=3)
    dense = (quantized.astype(np.int64) - 3).astype(np.float32) * np.float32(0.0173)
    yield Case("qint8", Storage(quantized.tobytes()), layout, dense.astype(np.float64))


def _whole(name: str, values: np.ndarray) -> Case:
    return Case(name, *array(values), values)


def _floats(dtype: str, normal: np.ndarray, chance: np.random.Generator) -> Iterator[Case]:
    n = normal.size
    limits = np.finfo(dtype)
    made: dict[str, Any] = {
        "normal": normal * 0.02,
        "large mean, small spread": 1e4 + normal * 0.1 if dtype == "float32" else 1e9 + normal,
        "growing": np.sort(normal) * 1e3,
        "long tails": chance.standard_cauchy(n),
        "one outlier": np.where(np.arange(n) == n // 3, 1e6, normal),
        "half zeros": np.where(normal < 0, 0, normal),
        "zeros of both signs": np.where(normal < 0, -0.0, np.where(normal < 0.5, 0.0, normal)),
        "nearly all zeros": np.where(normal < 3, 0, normal),
        "denormal": (normal * 1000).round() * float(limits.smallest_subnormal),
        "huge": np.clip(normal, -4, 4) / 4 * float(limits.max),
        "tiny": normal * 2e-6,
        "two values": np.where(normal < 0.1, 0.5, 0.75),
        "few values": np.round(normal * 4) / 7,
        "one other": np.where(np.arange(n) == n // 2, 2, 1),
        "all equal": np.full(n, 0.1),
        "of every size": normal * 10.0 ** chance.integers(-30, 30, n),
        "broken": np.choose(chance.integers(0, 50, n).clip(0, 4), [np.nan, np.inf, -np.inf, -np.nan, normal]),
        "nothing finite": np.choose(chance.integers(0, 3, n), [np.nan, np.inf, -np.inf]),
    }
    with np.errstate(over="ignore"):
        for name, values in made.items():
            yield _whole(f"{dtype}, {name}", np.asarray(values).astype(dtype))


def _laid(dtype: str, normal: np.ndarray) -> Iterator[Case]:
    """Views of a storage."""
    values = normal.astype(dtype)
    n = values.size
    source, big = Storage(values.tobytes()), Storage(values.byteswap().tobytes())
    rows = values.reshape(24, -1)
    width = rows.shape[1]
    yield Case(f"{dtype}, big-endian", big, TensorLayout(dtype, (n,), (1,), 0, swap=True), values)
    yield Case(f"{dtype}, transposed", source, TensorLayout(dtype, (width, 24), (1, width), 0), rows.T)
    yield Case(
        f"{dtype}, every third of every other", source, TensorLayout(dtype, (12, width // 3), (2 * width, 3), 1),
        rows[::2, 1::3][:, : width // 3],
    )  # fmt: skip
    yield Case(
        f"{dtype}, expanded", source, TensorLayout(dtype, (3, 24, width, 2), (0, width, 1, 0), 0),
        np.broadcast_to(rows[None, :, :, None], (3, 24, width, 2)),
    )  # fmt: skip
    negated = TensorLayout(dtype, (n,), contiguous_stride((n,)), 0, neg=True)
    yield Case(f"{dtype}, negated", source, negated, -values)


def main(n: int, words: str) -> int:
    """Compare all cases that have the words in their name, with the compiled loops and without."""
    bad, start = 0, time.monotonic()
    for case in cases(n):
        if words not in case.name:
            continue
        expected = reference(case.values)
        for compiled in (True, False):
            found = summary_of(sweep(case.source, case.layout, compiled=compiled))
            off = differences(found, expected)
            worst = max(off, key=lambda name: off[name])
            wrong = off[worst] > PRECISION
            bad += wrong
            how = "compiled" if compiled else "NumPy"
            told = f": {getattr(found, worst)} for {getattr(expected, worst)}" if wrong else ""
            print(f"{'WRONG ' if wrong else ''}{case.name:<45}{how:<10}{worst:<9}{off[worst]:.1e}{told}", flush=True)
    print(f"{bad} wrong, {time.monotonic() - start:.0f} s, tensors of {n:,} elements")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 12_000_000, " ".join(sys.argv[2:])))

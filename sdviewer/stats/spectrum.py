"""The singular values of a tensor as a matrix.

They are the roots of the eigenvalues of the Gram matrix of its smaller side, which is summed up in float64 while the
tensor streams past: memory grows with the smaller side, never with the tensor. That is exact to about `FLOOR` of the
largest singular value; what is below cannot be told from zero. (A decomposition of the matrix itself would tell more,
of numbers that were stored with seven digits or fewer, in five times the time and with the whole matrix in memory. A
Gram matrix in float32 saves a tenth of the time and tells nothing below a thousandth.)

Where that takes long, the leading ones come from a random subspace: block power steps on the same Gram matrix, which is
never formed (Halko, Martinsson and Tropp, 2011), with the residual as a bound of their error.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.stats.decode import Array, Elements, Reader, product, refuse_bomb
from sdviewer.stats.slices import known_elements
from sdviewer.stats.tiles import cut, exponent, flat

How = Literal["auto", "exact", "randomised"]
Kind = Literal["exact", "randomised", "none"]

FLOOR = 1e-7
"""Share of the largest singular value below which one is not told from zero: the square root of what float64 resolves,
and some for the sums."""

SINGLE_FLOOR = 1e-3
"""The same share for randomised ones, whose products are in float32."""

ENERGY = 0.9
"""Share of the sum of squares that the rank for 90 % takes in."""

AT_ONCE = 1.0
"""Seconds of estimated work that are done without being asked for."""

SPARE = 16
"""Dimensions of a random subspace beyond the values looked for, without which the last ones would be far off."""

LARGEST_SIDE = 8192
"""Smaller side up to which the Gram matrix is formed: 512 MiB, and as much again while its eigenvalues are sought."""

PANEL = 512
"""Columns of the Gram matrix that are summed between two looks at the progress."""

PIECE = 4 << 20
"""Elements of the matrix that are in memory at a time, as float64."""

MOST_POINTS = 1500
"""Values of a curve; of more, the first 200 and an even choice of the others."""

LEAST_POWER = 400
"""Pieces of magnitudes below two to minus this are as good as zero, and would overflow what brings them near 1."""

SEED = 20
"""The random subspace is always the same one, so that a plot is."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Singular values of a tensor as a matrix of `rows` x `columns`, which has `full` of them.

    `kind` says how the `known` first ones were found; "none" when they were not, for the reason `why`. `index` and
    `values` are points of their curve, largest first, `floor` what the smaller ones are not told from. `spectral` is
    the largest, `frobenius` the root of the sum of all squares (exact in both kinds), `stable_rank` the square of their
    ratio, `rank90` how many hold 90 % of the sum of squares (None when the known ones do not). `error` is the largest
    relative error of a randomised one, as far as its residual tells. `seconds` are estimates of what the exact ones and
    the randomised ones would take, `too_large` says that exact ones would need too much memory.
    """

    rows: int
    columns: int
    full: int
    kind: Kind
    why: str = ""
    known: int = 0
    spectral: float | None = None
    frobenius: float | None = None
    stable_rank: float | None = None
    rank90: int | None = None
    floor: float = 0.0
    error: float = 0.0
    seconds: tuple[float, float] = (0.0, 0.0)
    too_large: bool = False
    index: NDArray[np.int64] | None = None
    values: NDArray[np.float64] | None = None

    def to_json(self) -> dict[str, Any]:
        """All but the arrays, as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__[:14]} | {"seconds": list(self.seconds)}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name."""
        none = np.zeros(0)
        index, values = (none if array is None else array for array in (self.index, self.values))
        return {"index": index.astype(np.int64), "values": values}


def spectrum(
    source: ByteSource, layout: TensorLayout, how: How = "auto", *, progress: Progress = no_progress
) -> Spectrum:
    """The singular values of a tensor, its first dimension (of more than one index) along the rows.

    "auto" computes them all when that takes about a second, else the leading ones when those do, else it only says what
    each would take. Progress counts the elements that were gone through.

    Raises:
        OpenError: the tensor goes over the same bytes again and again.
        CorruptCheckpoint: the bytes are not there.
    """
    matrix = flat(known_elements(source, layout))
    rows, columns = matrix.shape[0], product(matrix.shape[1:])
    full = min(rows, columns)
    if not full:
        return Spectrum(rows, columns, 0, "none", "it is empty")
    refuse_bomb(matrix)
    cost = Cost.of(rows, columns, matrix.dtype.kind == "complex")
    about: dict[str, Any] = {"rows": rows, "columns": columns, "full": full, "seconds": (cost.exact, cost.sketched)}
    about["too_large"] = full > LARGEST_SIDE
    if how == "auto":
        how = "exact" if cost.exact <= AT_ONCE and full <= LARGEST_SIDE else "randomised"
        if how == "randomised" and not cost.at_once:
            return Spectrum(**about, kind="none", why="")
    if how == "exact" and about["too_large"]:
        return Spectrum(**about, kind="none", why=f"the smaller side is longer than {LARGEST_SIDE:,}")
    pieces = _Pieces(source, layout, matrix, exponent(source, layout))
    if how == "exact" or full <= cost.width + SPARE:
        return _exact(pieces, about, cost, progress)
    return _randomised(pieces, about, cost, progress)


@dataclass(frozen=True, slots=True)
class Cost:
    """Estimates in seconds, and how the leading values are to be had.

    `width` is how many of them, in so many `passes` over the tensor: what can be done at once, else the least.
    """

    exact: float
    sketched: float
    width: int
    passes: int

    @property
    def at_once(self) -> bool:
        """Whether the leading values may be looked for without being asked for."""
        return self.sketched <= 4 * AT_ONCE

    @classmethod
    def of(cls, rows: int, columns: int, is_complex: bool = False) -> Cost:
        """What a matrix takes on this machine, told by two small ones."""
        products, eigen = speeds()
        side, area = min(rows, columns), float(rows) * columns
        times = 4 if is_complex else 1
        reading = area * READ
        exact = reading + times * (area * side / products + side**3 / (eigen * _slower(side)))
        seconds = {
            (width, passes): passes * (reading + times * 4 * area * (width + SPARE) / (2 * products))
            for width, passes in SKETCHES
        }
        chosen = next((sketch for sketch, cost in seconds.items() if cost <= 2 * AT_ONCE), SKETCHES[-1])
        return cls(exact, seconds[chosen], *chosen)


READ = 3e-9
"""Seconds to read and decode an element."""

SKETCHES = ((256, 3), (256, 2), (128, 2), (64, 2))
"""How many leading values are looked for where not all are computed, in how many passes over the tensor, best first.

Each pass but the last turns the subspace towards them, and the last measures what it holds, too. Values that stand out
are right after two; of a matrix of pure noise, the worst case, the first is a hundredth too small after three and the
last a tenth.
"""


def _slower(side: int) -> float:
    """Eigenvalues of a matrix that no cache holds come at this share of the speed of a small one."""
    return 1.0 if side <= 512 else 0.8


SLOWEST = (6e9, 3e9)
"""Speeds below which no machine is taken to be: one that is busy for a moment would else be told other things."""


@lru_cache(maxsize=1)
def speeds() -> tuple[float, float]:
    """Multiplications a second of a float64 product, and n^3 a second of the eigenvalues of an n x n matrix."""
    generator = np.random.default_rng(SEED)
    square = generator.standard_normal((384, 384))

    def best(call: Callable[[], object]) -> float:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return max(min(times), 1e-6)

    gram = square @ square.T
    calls = (lambda: square @ gram, lambda: np.linalg.eigvalsh(gram))
    products, eigen = (384**3 / best(call) for call in calls)
    return max(products, SLOWEST[0]), max(eigen, SLOWEST[1])


class _Pieces:
    """The matrix, turned so that its smaller side is along the columns, in pieces of some rows: float64 or complex128.

    `width` is the smaller side.
    """

    def __init__(self, source: ByteSource, layout: TensorLayout, matrix: Elements, power: int) -> None:
        self._source, self._layout, self._power = source, layout, power
        self._matrix = matrix
        rows, columns = matrix.shape[0], product(matrix.shape[1:])
        self.turned = columns > rows
        self.width, self.height = (rows, columns) if self.turned else (columns, rows)
        self.dtype = np.dtype(np.complex128 if matrix.dtype.kind == "complex" else np.float64)
        self.power = power

    def __iter__(self) -> Iterator[Array]:
        reader = Reader(self._source, self._layout)
        for _, block in cut(self._matrix, self._sizes()):
            values = reader.values(block)
            piece = values.reshape(values.shape[0], -1)
            yield self._scaled(piece.T if self.turned else piece)

    def _sizes(self) -> list[int]:
        shape = list(self._matrix.shape)
        at_once = max(1, PIECE // self.width)
        if not self.turned:
            return [at_once, *shape[1:]]
        # Along the columns: the last dimensions as far as they fit, then a part of one, then one at a time.
        for axis in range(len(shape) - 1, 0, -1):
            whole = shape[axis]
            shape[axis] = min(whole, at_once)
            at_once = max(1, at_once // whole)
        return shape

    def _scaled(self, piece: Array) -> Array:
        made: Array = np.ascontiguousarray(piece, self.dtype)
        if self._power:
            made = made * 2.0**-self._power
        return made


def _exact(pieces: _Pieces, about: dict[str, Any], cost: Cost, progress: Progress) -> Spectrum:
    side, total, done = pieces.width, pieces.width * pieces.height, 0
    gram = np.zeros((side, side), pieces.dtype)
    for piece in pieces:
        # Only on and above the diagonal: the eigenvalues are told by that half.
        for start in range(0, side, PANEL):
            progress(done, total)
            panel = piece[:, start : start + PANEL]
            gram[start : start + PANEL, start:] += panel.conj().T @ piece[:, start:]
        if not np.isfinite(gram.diagonal()).all():
            return _not_finite(about)
        done += piece.size
    progress(total, total)
    squares = float(gram.diagonal().real.sum())
    found: NDArray[np.float64] = _patiently(lambda: np.linalg.eigvalsh(gram, UPLO="U"), cost.exact, progress)
    eigenvalues = np.maximum(found[::-1], 0.0)
    return _told(about, "exact", eigenvalues, squares, 0.0, pieces.power)


def _patiently(call: Callable[[], Any], seconds: float, progress: Progress) -> Any:
    """Run something that knows no progress, and still notice a cancel, if it is over soon.

    What takes longer would go on and on after it: there the process is ended instead, by who asked.
    """
    if seconds > 2 * AT_ONCE:
        return call()
    result: Future[Any] = Future()

    def work() -> None:
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=work, name="eigenvalues", daemon=True).start()
    while not result.done():
        wait([result], 0.05)
        progress(0, 0)
    return result.result()


def _randomised(pieces: _Pieces, about: dict[str, Any], cost: Cost, progress: Progress) -> Spectrum:
    known, passes = cost.width, cost.passes
    width = min(known + SPARE, pieces.width)
    total, done = passes * pieces.width * pieces.height, 0
    generator = np.random.default_rng(SEED)
    basis: Array = generator.standard_normal((pieces.width, width)).astype(np.float32)
    shape = basis.shape
    single = np.dtype(np.complex64 if pieces.dtype.kind == "c" else np.float32)
    image: Array = np.zeros(shape, pieces.dtype)
    squares = 0.0
    for turn in range(passes):
        basis = np.linalg.qr(basis if not turn else image)[0].astype(single)
        image = np.zeros(shape, pieces.dtype)
        for piece in pieces:
            if not turn:
                squares += float(np.vdot(piece, piece).real)
                if not math.isfinite(squares):
                    return _not_finite(about)
            # float32 is twice as quick and has a short range: each piece is brought into the midst of it.
            power = max(math.frexp(float(np.abs(piece).max(initial=0.0)))[1], -LEAST_POWER)
            rows = max(1, PIECE // 4 // piece.shape[1])
            for start in range(0, len(piece), rows):
                progress(done, total)
                part = (piece[start : start + rows] * 2.0**-power).astype(single)
                image += (part.conj().T @ (part @ basis)).astype(pieces.dtype) * 4.0**power
                done += part.size
    progress(total, total)
    eigenvalues, error = _eigenvalues(basis, image, known)
    return _told(about, "randomised", eigenvalues, squares, error, pieces.power)


def _eigenvalues(basis: Array, image: Array, known: int) -> tuple[NDArray[np.float64], float]:
    """The largest eigenvalues of a matrix, of which its `image` of an orthonormal `basis` is known.

    Those of its best approximation from the image (Nystroem's), which are nearer than what the basis alone tells, and
    none is too large. Also the largest relative error of their roots, as far as the residual tells.
    """
    small = basis.conj().T.astype(image.dtype) @ image
    ritz, turning = np.linalg.eigh((small + small.conj().T) / 2)
    told = ritz > max(ritz[-1], 0.0) * SINGLE_FLOOR**2
    found = np.zeros(known)
    if not told.any():
        return found, 0.0
    ritz, turning = ritz[told], turning[:, told]
    turned = image @ turning
    residuals = np.linalg.norm(turned - (basis @ turning) * ritz, axis=0) / (2 * ritz)
    part = turned / np.sqrt(ritz)
    nearer = np.maximum(np.linalg.eigvalsh(part.conj().T @ part)[::-1][:known], 0.0)
    found[: len(nearer)] = nearer
    return found, float(residuals[::-1][:known].max())


def _not_finite(about: dict[str, Any]) -> Spectrum:
    return Spectrum(**about, kind="none", why="it holds NaN or infinity")


def _told(
    about: dict[str, Any], kind: Kind, eigenvalues: NDArray[np.float64], squares: float, error: float, power: int
) -> Spectrum:
    """What the eigenvalues of the Gram matrix say, largest first; `squares` is the sum of all of them."""
    largest = float(eigenvalues[0])
    energy = np.cumsum(eigenvalues)
    reached = int(np.searchsorted(energy, ENERGY * squares * (1 - 1e-12))) + 1
    if largest == 0:
        rank90: int | None = 0
    else:
        rank90 = reached if reached <= len(eigenvalues) else None
    values = np.ldexp(np.sqrt(eigenvalues), power)
    index = _chosen(len(values))
    return Spectrum(
        **about,
        kind=kind,
        known=len(values),
        spectral=float(values[0]),
        frobenius=math.ldexp(math.sqrt(squares), power),
        stable_rank=squares / largest if largest else None,
        rank90=rank90,
        floor=float(values[0]) * (FLOOR if kind == "exact" else SINGLE_FLOOR),
        error=error,
        index=index,
        values=values[index],
    )


def _chosen(n: int) -> NDArray[np.int64]:
    """Which of n falling values draw their curve."""
    if n <= MOST_POINTS:
        return np.arange(n)
    rest = np.linspace(200, n - 1, MOST_POINTS - 200)
    return np.unique(np.concatenate([np.arange(200), np.rint(rest)]).astype(np.int64))

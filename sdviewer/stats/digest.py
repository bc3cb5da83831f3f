"""What identifies a tensor's bits: SHA-256 of its stored elements."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.stats.decode import Array, Blocks, Reader, elements_of, overlaps


@dataclass(frozen=True, slots=True)
class Digest:
    """`sha256` in hexadecimal digits, or None and the problem code that says why not."""

    sha256: str | None
    problem: str = ""

    def to_json(self) -> dict[str, str | None]:
        return {"sha256": self.sha256, "problem": self.problem}


def sha256(source: ByteSource, layout: TensorLayout, *, progress: Progress = no_progress) -> Digest:
    """The hash of the stored elements in row-major order, little-endian, in their own dtype.

    conj and neg are not resolved, quantized elements stay integers; those that share a byte are hashed as they are
    packed when they lie in row-major order, else as packed anew; opaque ones as they are stored. Progress is in bytes.

    Raises:
        CorruptCheckpoint: the bytes are not there.
    """
    elements = elements_of(source, layout)
    if layout.opaque is not None:
        layout = TensorLayout("uint8", (layout.opaque,), (1,), 0)
        elements = elements_of(source, layout)
    logical = elements.nbytes(elements.count)
    if overlaps(elements):
        return Digest(None, "too_large")
    digest = hashlib.sha256()
    done = 0
    per_byte = elements.dtype.per_byte
    reader = Reader(source, layout)
    rest = np.empty(0, np.uint8)
    for block in Blocks(elements):
        progress(done, logical)
        run = np.ascontiguousarray(reader.stored(block)).reshape(-1)
        if per_byte > 1:
            run = np.concatenate([rest, run])
            whole = run.size // per_byte * per_byte
            run, rest = _packed(run[:whole], per_byte), run[whole:]
        elif sys.byteorder == "big":
            run = run.view(np.uint16).byteswap() if elements.dtype.name == "complex32" else run.byteswap()
        packed: NDArray[np.uint8] = run.view(np.uint8)
        digest.update(packed.data)
        done += run.nbytes
    if rest.size:
        digest.update(_packed(np.pad(rest, (0, per_byte - rest.size)), per_byte).data)
    progress(logical, logical)
    return Digest(digest.hexdigest())


def _packed(values: Array, per_byte: int) -> NDArray[np.uint8]:
    bits = 8 // per_byte
    groups = values.reshape(-1, per_byte) << np.arange(0, 8, bits, dtype=np.uint8)
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(groups, axis=1)
    return packed

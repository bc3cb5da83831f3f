"""The bytes of a tensor that a plan computes, so that they can be read like those of a file."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from types import TracebackType
from typing import IO, Self

from sdviewer.core.tensor_bytes import TensorLayout, contiguous_stride
from sdviewer.formats.evaluation import Evaluation
from sdviewer.formats.pread import check_range, read_into
from sdviewer.repair.plan import Computed

IN_MEMORY = 64 << 20
"""Bytes of a tensor that are kept in memory; a larger one goes to a temporary file without a name."""


class ComputedStorage:
    """A tensor computed once, row by row; may be read by several threads."""

    def __init__(self, evaluation: Evaluation, value: Computed) -> None:
        made = evaluation.made(value)
        self.nbytes = made.nbytes
        self.layout = TensorLayout(
            value.dtype, value.shape, contiguous_stride(value.shape), 0, swap=evaluation.order == "big"
        )
        self._path = evaluation.checkpoint.path
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        with ExitStack() as stack:
            if self.nbytes > IN_MEMORY:
                self._file = stack.enter_context(tempfile.TemporaryFile())
            for chunk in made.chunks():
                if self._file is None:
                    self._memory += chunk
                else:
                    self._file.write(chunk)
            if self._file is not None:
                self._file.flush()
            stack.pop_all()

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill the whole `buffer` with the bytes from `start`."""
        buffer = buffer.cast("B")
        check_range(self._path, start, len(buffer), self.nbytes)
        if self._file is None:
            buffer[:] = memoryview(self._memory)[start : start + len(buffer)]
        else:
            read_into(self._file.fileno(), self._path, start, buffer)

    def close(self) -> None:
        """Let the memory and the file go."""
        self._memory = bytearray()
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

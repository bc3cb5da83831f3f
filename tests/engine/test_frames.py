"""How two of our processes talk."""

from __future__ import annotations

import io

import numpy as np
import pytest

from sdviewer.engine.frames import Frame, read_frame, write_frame


def test_that_a_frame_comes_through_whole() -> None:
    stream = io.BytesIO()
    frame = Frame(7, "result", {"text": "ünï \ud800 \0", "n": 2**60}, {"rows": b"\1\2\3", "none": b""})
    write_frame(stream, frame)
    write_frame(stream, Frame(8, "cancelled"))
    stream.seek(0)
    first, second = read_frame(stream), read_frame(stream)
    assert first is not None
    assert (first.id, first.type, first.body) == (7, "result", frame.body)
    assert {name: bytes(data) for name, data in first.buffers.items()} == frame.buffers
    assert second == Frame(8, "cancelled")
    assert read_frame(stream) is None


@pytest.mark.parametrize("cut", [1, 3, 4, 10, -1])
def test_that_a_frame_cut_short_is_the_end(cut: int) -> None:
    stream = io.BytesIO()
    write_frame(stream, Frame(1, "result", {}, {"rows": b"12345"}))
    assert read_frame(io.BytesIO(stream.getvalue()[:cut])) is None


def test_that_an_array_with_a_dimension_of_zero_comes_through() -> None:
    stream = io.BytesIO()
    write_frame(stream, Frame(1, "result", {}, {"nothing": np.zeros((0, 5)), "rows": b"12"}))
    stream.seek(0)
    found = read_frame(stream)
    assert found is not None
    assert {name: bytes(data) for name, data in found.buffers.items()} == {"nothing": b"", "rows": b"12"}

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.paths import dotted
from sdviewer.errors import CorruptCheckpoint, OpenError, UsageError
from sdviewer.formats import open_checkpoint, open_storage, storage, tensor_source
from sdviewer.formats.pickle_streams import pickle_streams
from sdviewer.stats.digest import sha256
from sdviewer.stats.slices import values_window
from sdviewer.stats.summary import summary
from tests.formats.conftest import Member, build_zip, elements

Write = Callable[..., Path]

HOSTILE = b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R."


def npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def header(text: str, data: bytes = b"", version: int = 1) -> bytes:
    """An array file with a header of one's own."""
    raw = text.encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(raw).to_bytes(2 if version == 1 else 4, "little") + raw + data


def fields(descr: str, shape: str, order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n"


def opened(write: Write, array: Any) -> Checkpoint:
    return open_checkpoint(write(npy(array), "array.npy"))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
        np.arange(3, dtype=">i4"),
        np.array([1 + 2j], ">c16"),
        np.array([True, False]),
        np.array(2.5),
        np.zeros((0, 2)),
        np.arange(5, dtype=np.uint16),
        np.array([1, -2], np.float16),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_that_an_array_is_read_as_numpy_reads_it(write: Write, array: np.ndarray[Any, np.dtype[Any]]) -> None:
    checkpoint = opened(write, array)
    assert (checkpoint.container, checkpoint.problems) == ("npy", ())
    (row,) = checkpoint.tensors
    assert (row.path, row.shape, row.dtype) == ((), array.shape, array.dtype.newbyteorder("=").name)
    assert checkpoint.byte_order == ("big" if array.dtype.str.startswith(">") else "little")
    wanted = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"))
    assert elements(checkpoint, 0) == wanted.tobytes()
    if array.size and array.flags.c_contiguous:
        assert row.stride == tuple(step // array.itemsize for step in array.strides)


def test_that_bfloat16_is_shown_as_such_and_said_to_be_assumed(write: Write) -> None:
    array = np.array([1, -2], ml_dtypes.bfloat16)
    checkpoint = opened(write, array)
    assert [(problem.severity, problem.code) for problem in checkpoint.problems] == [("info", "assumed_dtype")]
    assert checkpoint.tensors[0].dtype == "bfloat16"
    assert elements(checkpoint, 0) == array.tobytes()


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array(["ab", "c"]), "str64"),
        (np.array([b"abc", b"d"]), "bytes24"),
        (np.array(["2026-01-01"], "M8[D]"), "datetime64[D]"),
        (np.zeros(2, [("a", "<f4"), ("b", "<i2", (3,))]), "void80"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_that_types_which_torch_lacks_have_their_bytes_and_a_hash(
    write: Write, array: np.ndarray[Any, np.dtype[Any]], dtype: str
) -> None:
    import hashlib

    checkpoint = opened(write, array)
    row = checkpoint.tensors[0]
    assert (row.dtype, row.shape, row.nbytes, row.unreadable) == (dtype, array.shape, array.nbytes, "")
    assert elements(checkpoint, 0) == array.tobytes()
    source = tensor_source(checkpoint, 0)
    with open_storage(source) as reader:
        assert sha256(reader, source.layout).sha256 == hashlib.sha256(array.tobytes()).hexdigest()
        assert (summary(reader, source.layout).count, summary(reader, source.layout).zeros) == (array.size, None)
        with pytest.raises(UsageError, match="not decoded"):
            values_window(reader, source.layout, 0, None, None, 0, 1, 0, 1)


def test_that_an_archive_is_read_by_the_names_of_its_arrays(write: Write) -> None:
    arrays = {"f4": np.arange(6, dtype=np.float32), "dir/inner.w": np.ones(2), "be": np.arange(3, dtype=">i4")}
    for method in (0, 8):
        members = [Member(f"{name}.npy", npy(array), method=method) for name, array in arrays.items()]
        checkpoint = open_checkpoint(write(build_zip(members).data, "arrays.npz"))
        assert (checkpoint.container, checkpoint.problems, checkpoint.byte_order) == ("npz", (), "little")
        assert checkpoint.state_dicts[0].keys == tuple(arrays)
        for index, array in enumerate(arrays.values()):
            assert elements(checkpoint, index) == array.astype(array.dtype.newbyteorder("<")).tobytes()


@pytest.mark.parametrize("in_memory", [1 << 20, 10])
def test_that_a_deflated_array_begins_behind_its_header(
    write: Write, monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    monkeypatch.setattr(storage, "_IN_MEMORY", in_memory)
    array = np.arange(100, dtype=np.int16)
    checkpoint = open_checkpoint(write(build_zip([Member("a.npy", npy(array), method=8)]).data))
    source = tensor_source(checkpoint, 0)
    with open_storage(source) as reader:
        buffer = bytearray(4)
        reader.read_into(20, memoryview(buffer))
        assert (reader.nbytes, np.frombuffer(buffer, np.int16).tolist()) == (200, [10, 11])


def test_that_objects_are_told_and_nothing_of_them_is_built(write: Write) -> None:
    array = np.array([1, "x", {"lr": 0.5, "steps": [1, 2]}, None], object).reshape(2, 2)
    checkpoint = open_checkpoint(write(build_zip([Member("obj.npy", npy(array))]).data))
    assert [(row.key, row.shape, row.dtype) for row in checkpoint.tensors] == [("obj", (2, 2), "object")]
    values = {dotted(row.path): row.value for row in checkpoint.values}
    assert values == {"obj.0": 1, "obj.1": "x", "obj.2.lr": 0.5, "obj.2.steps.0": 1, "obj.2.steps.1": 2, "obj.3": None}
    with pytest.raises(OpenError) as caught:
        tensor_source(checkpoint, 0)
    assert caught.value.code == "no_storage"


def test_that_a_pickle_which_makes_no_array_is_refused_and_scanned(write: Write) -> None:
    data = header(fields("'|O'", "(1,)"), HOSTILE)
    path = write(data, "array.npy")
    with pytest.raises(CorruptCheckpoint, match=r"os\.system") as caught:
        open_checkpoint(path)
    assert caught.value.code == "bad_pickle"
    assert [stream.data for stream in pickle_streams(path)] == [HOSTILE]
    assert pickle_streams(write(npy(np.ones(2)))) == []
    good = Member("good.npy", npy(np.ones(2)))
    checkpoint = open_checkpoint(write(build_zip([Member("bad.npy", data), good]).data))
    assert [bool(row.unreadable) for row in checkpoint.tensors] == [True, False]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (header(fields("'<f4'", "(1,)"), version=4), "corrupt"),
        (b"\x93NUMPY\1\0\xff\xff" + bytes(20), "too_large"),
        (b"\x93NUMPY\2\0" + (1 << 30).to_bytes(4, "little"), "too_large"),
        (b"\x93NUMPY\1\0\x90\0{'descr'", "truncated"),
        (header("__import__('os').system('true')"), "corrupt"),
        (header("(" * 4000), "corrupt"),
        (header(fields("'<f4'", "(1,)" + " " * 10_000)), "corrupt"),
        (header(fields("'<q9'", "(1,)")), "corrupt"),
        (header(fields("[('a', 3)]", "(1,)")), "corrupt"),
        (header(fields("'<f4'", "(-1,)")), "corrupt"),
        (header(fields("'<f4'", "(1.5,)")), "corrupt"),
        (header(fields("'<f4'", "(True,)")), "corrupt"),
        (header(fields("'<f4'", f"({1 << 40}, {1 << 40})")), "corrupt"),
        (header(fields("'<f4'", "(" + "1," * 65 + ")")), "corrupt"),
        (header("{'shape': (1,)}"), "corrupt"),
        (header(fields("'|O'", "(1,)"), b"\x80\x02("), "bad_pickle"),
    ],
)
def test_that_a_header_that_lies_is_refused(write: Write, data: bytes, code: str) -> None:
    with pytest.raises(CorruptCheckpoint) as caught:
        open_checkpoint(write(data))
    assert caught.value.code == code


def test_that_an_array_which_breaks_off_or_goes_on_is_told(write: Write) -> None:
    short = open_checkpoint(write(header(fields("'<f4'", f"({1 << 40},)"), bytes(8))))
    assert [problem.code for problem in short.problems] == ["tensor_unreadable"]
    assert short.tensors[0].shape == (1 << 40,)
    long = open_checkpoint(write(header(fields("'<f4'", "(1,)"), bytes(8))))
    assert [problem.code for problem in long.problems] == ["trailing_bytes"]
    assert elements(long, 0) == bytes(4)


def test_that_what_python_2_wrote_is_read(write: Write) -> None:
    checkpoint = open_checkpoint(write(header(fields("'<f4'", "(2L, 1L)"), bytes(8))))
    assert checkpoint.tensors[0].shape == (2, 1)

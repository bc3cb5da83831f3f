from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sdviewer.core.paths import TypedStep
from sdviewer.errors import CorruptCheckpoint, UnknownFormat
from sdviewer.formats import TensorSource, open_checkpoint, open_storage, tensor_source
from sdviewer.formats.sniff import HEAD
from tests.formats.conftest import elements

Write = Callable[..., Path]

RAW, FLOATS, INT32S, INT64S, DOUBLES, UINT64S = 9, 4, 5, 7, 10, 11


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def initializer(name: str, sizes: tuple[int, ...], kind: int, data: bytes, field: int = RAW) -> bytes:
    """A TensorProto with its numbers in `field`."""
    dims = b"".join([number(1, size) for size in sizes])
    return dims + number(2, kind) + block(8, name.encode()) + block(field, data)


def external(name: str, location: str, size: int = 2, **more: str) -> bytes:
    entries = {"location": location, **more}
    entry = b"".join([block(13, block(1, key.encode()) + block(2, value.encode())) for key, value in entries.items()])
    return number(1, size) + number(2, 1) + block(8, name.encode()) + entry + number(14, 1)


def model(*initializers: bytes, graph: bytes = b"", tail: bytes = b"") -> bytes:
    """A ModelProto whose graph has these initializers."""
    return number(1, 8) + block(7, graph + b"".join([block(5, data) for data in initializers])) + tail


@pytest.mark.parametrize(
    ("kind", "dtype", "field", "data", "values"),
    [
        (1, "float32", RAW, np.array([1, -2], "<f4").tobytes(), np.array([1, -2], "<f4")),
        (1, "float32", FLOATS, np.array([1, -2], "<f4").tobytes(), np.array([1, -2], "<f4")),
        (14, "complex64", FLOATS, np.array([1, -2, 3, 4], "<f4").tobytes(), np.array([1 - 2j, 3 + 4j], "<c8")),
        (11, "float64", DOUBLES, np.array([1, -2], "<f8").tobytes(), np.array([1, -2], "<f8")),
        (7, "int64", INT64S, varint(-1) + varint(1 << 40), np.array([-1, 1 << 40], "<i8")),
        (6, "int32", INT32S, varint(-7) + varint(300), np.array([-7, 300], "<i4")),
        (3, "int8", INT32S, varint(-1) + varint(127), np.array([-1, 127], "<i1")),
        (9, "bool", INT32S, b"\1\0", np.array([1, 0], "<u1")),
        (10, "float16", INT32S, varint(0x3C00) + varint(0xC000), np.array([1, -2], "<f2")),
        (13, "uint64", UINT64S, varint((1 << 64) - 1) + b"\0", np.array([(1 << 64) - 1, 0], "<u8")),
        (12, "uint32", UINT64S, varint((1 << 32) - 1) + b"\0", np.array([(1 << 32) - 1, 0], "<u4")),
    ],
)
def test_that_numbers_are_read_from_every_field(
    write: Write, kind: int, dtype: str, field: int, data: bytes, values: np.ndarray[tuple[int], np.dtype[np.generic]]
) -> None:
    checkpoint = open_checkpoint(write(model(initializer("w", (2,), kind, data, field))))
    assert (checkpoint.container, checkpoint.problems) == ("onnx", ())
    assert (checkpoint.tensors[0].dtype, checkpoint.tensors[0].shape) == (dtype, (2,))
    source = tensor_source(checkpoint, 0)
    assert TensorSource.from_json(source.to_json()) == source
    assert elements(checkpoint, 0) == values.tobytes()


def test_that_values_sharing_a_byte_are_shown_as_torch_has_them_or_as_bytes(write: Write) -> None:
    four, three = initializer("f4", (2, 4), 23, b"\x21\x43\x65\x87"), initializer("i4", (3,), 22, b"\x21\x03", INT32S)
    checkpoint = open_checkpoint(write(model(four, three)))
    assert [(row.dtype, row.shape, row.nbytes) for row in checkpoint.tensors] == [
        ("float4_e2m1fn_x2", (2, 2), 4),
        ("int4", (3,), 2),
    ]
    assert [elements(checkpoint, i) for i in range(2)] == [b"\x21\x43\x65\x87", b"\x21\x03"]


def test_that_the_model_is_told_and_its_nodes_are_stepped_over(write: Write) -> None:
    opset, property_ = number(2, 17), block(1, b"license") + block(2, b"MIT")
    graph = block(1, b"\xff" * 300) + block(2, b"main graph")  # a node is never looked into
    tail = block(2, b"pytorch") + block(3, b"2.13") + block(8, opset) + block(14, property_)
    checkpoint = open_checkpoint(write(model(initializer("a.w", (1,), 2, b"x"), graph=graph, tail=tail)))
    assert checkpoint.writer == {
        "ir_version": 8,
        "graph": "main graph",
        "producer_name": "pytorch",
        "producer_version": "2.13",
        "opsets": {"ai.onnx": 17},
    }
    assert checkpoint.metadata == {"onnx": {"license": "MIT"}}
    assert checkpoint.state_dicts[0].keys == ("a.w",)


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("../secret", "out of the model's folder"),
        ("a/../../secret", "out of the model's folder"),
        ("/etc/hostname", "out of the model's folder"),
        ("C:\\secret", "out of the model's folder"),
        ("..\\secret", "out of the model's folder"),
        ("link", "link that leads out"),
        ("", "does not name"),
        ("no.bin", "there is no such file"),
        (".", "a folder"),
    ],
)
def test_that_another_file_is_only_taken_from_the_folder_of_the_model(tmp_path: Path, location: str, says: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(8))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "model.onnx").write_bytes(model(external("w", location)))
    checkpoint = open_checkpoint(folder / "model.onnx")
    assert checkpoint.tensors[0].shape == (2,)
    assert says in checkpoint.tensors[0].unreadable


def test_that_external_numbers_are_read_from_the_file_beside_the_model(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "weights.bin").write_bytes(bytes(range(24)))
    tensors = [
        external("whole", "sub/weights.bin", 6),
        external("part", "sub/weights.bin", 2, offset="8", length="8"),
        external("beyond", "sub/weights.bin", 2, offset="20", length="8"),
        external("wrong", "sub/weights.bin", 2, offset="0", length="4"),
        external("odd", "sub/weights.bin", 2, offset="-1"),
    ]
    path = tmp_path / "model.onnx"
    path.write_bytes(model(*tensors))
    checkpoint = open_checkpoint(path)
    assert checkpoint.size == path.stat().st_size + 24
    assert list(checkpoint.shards) == ["sub/weights.bin"]
    assert [(row.key, row.shard, bool(row.unreadable)) for row in checkpoint.tensors] == [
        ("whole", "sub/weights.bin", False),
        ("part", "sub/weights.bin", False),
        ("beyond", None, True),
        ("wrong", None, True),
        ("odd", None, True),
    ]
    assert elements(checkpoint, 0) == bytes(range(24))
    assert elements(checkpoint, 1) == bytes(range(8, 16))
    source = tensor_source(checkpoint, 1)
    assert TensorSource.from_json(source.to_json()) == source
    (tmp_path / "sub" / "weights.bin").write_bytes(bytes(25))
    with pytest.raises(CorruptCheckpoint) as caught:
        open_storage(source)
    assert caught.value.code == "file_changed"


def test_that_sparse_initializers_are_put_into_place(write: Write) -> None:
    values = initializer("s", (2,), 1, np.array([3, 4], "<f4").tobytes())
    indices = initializer("", (2, 2), 7, np.array([[0, 1], [1, 2]], "<i8").tobytes())
    sparse = block(1, values) + block(2, indices) + number(3, 2) + number(3, 3)
    checkpoint = open_checkpoint(write(model(graph=block(15, sparse))))
    assert [(row.path, row.kind) for row in checkpoint.tensors] == [
        (("s",), "sparse"),
        (("s", TypedStep("part", "indices")), "tensor"),
        (("s", TypedStep("part", "values")), "tensor"),
    ]
    source = tensor_source(checkpoint, 0)
    with open_storage(source) as storage:
        data = bytearray(24)
        storage.read_into(0, memoryview(data))
    assert np.frombuffer(bytes(data), "<f4").tolist() == [0, 3, 0, 0, 0, 4]


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (initializer("w", (3,), 1, bytes(8)), "needs 12 bytes"),
        (initializer("w", (-1,), 1, bytes(8)), "negative"),
        (initializer("w", (1 << 40, 1 << 40), 1, bytes(8)), "2\\*\\*63"),
        (initializer("w", (2,), 99, bytes(8)), "type 99"),
        (initializer("w", (2,), 8, b"hi", 6), "texts"),
        (initializer("w", (2,), 1, bytes(8), DOUBLES), "another type"),
        (initializer("w", (1 << 40,), 7, b"\1\1", INT64S), "needs"),
        (initializer("w", (2,), 1, bytes(4)) + block(RAW, bytes(4)), "one piece"),
        (number(1, 2) + number(2, 1), "has none"),
    ],
)
def test_that_a_tensor_that_lies_is_marked_and_the_others_stay(write: Write, tensor: bytes, says: str) -> None:
    checkpoint = open_checkpoint(write(model(tensor, initializer("good", (1,), 2, b"x"))))
    assert [problem.code for problem in checkpoint.problems] == ["tensor_unreadable"]
    with pytest.raises(CorruptCheckpoint, match=says):
        tensor_source(checkpoint, 0)
    assert elements(checkpoint, 1) == b"x"


@pytest.mark.parametrize("data", [b"\x80" * 2, b"\1\2\3", b"\x80" * 10 + b"\1\1"])
def test_that_varints_that_do_not_fit_are_refused_when_they_are_read(write: Write, data: bytes) -> None:
    checkpoint = open_checkpoint(write(model(initializer("w", (2,), 7, data, INT64S))))
    source = tensor_source(checkpoint, 0)
    with pytest.raises(CorruptCheckpoint):
        open_storage(source)


def test_that_a_model_that_breaks_off_gives_what_came_before(write: Write) -> None:
    whole = model(initializer("a", (1,), 2, b"x"), initializer("b", (4,), 1, bytes(range(16))))
    checkpoint = open_checkpoint(write(whole[:-6]))
    assert [row.key for row in checkpoint.tensors] == ["a", "b"]
    assert "truncated" in [problem.code for problem in checkpoint.problems]
    assert elements(checkpoint, 0) == b"x"
    assert checkpoint.tensors[1].unreadable


def test_that_a_large_model_is_not_read(tmp_path: Path) -> None:
    """Eight gigabytes of nothing: only the place behind them is looked at."""
    nbytes = 8 << 30
    start = number(1, nbytes // 4) + number(2, 1) + block(8, b"huge") + varint(RAW << 3 | 2) + varint(nbytes)
    behind = block(5, initializer("small", (1,), 2, b"x"))
    head = varint(5 << 3 | 2) + varint(len(start) + nbytes) + start
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.write(number(1, 8) + varint(7 << 3 | 2) + varint(len(head) + nbytes + len(behind)) + head)
        file.seek(nbytes, 1)
        file.write(behind)
    checkpoint = open_checkpoint(path)
    assert [(row.key, row.nbytes) for row in checkpoint.tensors] == [("huge", nbytes), ("small", 1)]
    assert elements(checkpoint, 1) == b"x"


@pytest.mark.parametrize(
    "data",
    [
        number(1, 8) + block(2, b"no graph") + bytes(HEAD),
        number(1, 8) + varint(7 << 3) + b"\1",
        b"\x08" + b"\xff" * 20,
        struct.pack("<Q", 8) * 20,
    ],
)
def test_that_other_bytes_are_not_taken_for_a_model(write: Write, data: bytes) -> None:
    with pytest.raises(UnknownFormat):
        open_checkpoint(write(data))

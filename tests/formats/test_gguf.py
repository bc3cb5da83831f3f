from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdviewer.core.paths import dotted
from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats import open_checkpoint, open_storage, tensor_source
from sdviewer.stats.digest import Digest, sha256
from sdviewer.stats.summary import summary
from tests.formats.conftest import elements

Write = Callable[..., Path]
Entry = tuple[str, tuple[int, ...], int, int]
"""(name, sizes, fastest first, type, offset)."""

UINT32, FLOAT32, BOOL, STRING, ARRAY, FLOAT64 = 4, 6, 7, 8, 9, 12


def text(value: str, sign: str = "<", wide: str = "Q") -> bytes:
    data = value.encode("utf-8", "surrogateescape")
    return struct.pack(f"{sign}{wide}", len(data)) + data


def pair(key: str, kind: int, value: bytes, sign: str = "<", wide: str = "Q") -> bytes:
    return text(key, sign, wide) + struct.pack(f"{sign}I", kind) + value


def gguf_file(
    entries: Iterable[Entry],
    data: bytes = b"",
    pairs: Iterable[bytes] = (),
    *,
    version: int = 3,
    sign: str = "<",
    alignment: int = 32,
    counts: tuple[int, int] | None = None,
) -> bytes:
    """A file written by hand; `counts` are the numbers of tensors and pairs that it claims."""
    wide = "I" if version == 1 else "Q"
    entries, pairs = list(entries), list(pairs)
    n_tensors, n_pairs = counts or (len(entries), len(pairs))
    out = b"GGUF" + struct.pack(f"{sign}I{wide}{wide}", version, n_tensors, n_pairs) + b"".join(pairs)
    for name, sizes, kind, offset in entries:
        out += text(name, sign, wide)
        out += struct.pack(f"{sign}I{len(sizes)}{wide}IQ", len(sizes), *sizes, kind, offset)
    if data:
        out += bytes(-len(out) % alignment) + data
    return out


@pytest.mark.parametrize(("version", "sign"), [(1, "<"), (2, "<"), (3, "<"), (3, ">")])
def test_that_every_version_and_byte_order_is_read(write: Write, version: int, sign: str) -> None:
    numbers = np.arange(6, dtype=f"{sign}f4")
    wide = "I" if version == 1 else "Q"
    pairs = [
        pair("general.architecture", STRING, text("llama", sign, wide), sign, wide),
        pair("layers", UINT32, struct.pack(f"{sign}I", 32), sign, wide),
    ]
    data = gguf_file(
        [("blk.0.attn.weight", (3, 2), 0, 0)], numbers.tobytes() + bytes(8), pairs, version=version, sign=sign
    )
    checkpoint = open_checkpoint(write(data, "model.gguf"))
    assert (checkpoint.container, checkpoint.writer["version"], checkpoint.problems) == ("gguf", version, ())
    (tensor,) = checkpoint.tensors
    assert (tensor.key, tensor.shape, tensor.stride, tensor.dtype) == ("blk.0.attn.weight", (2, 3), (3, 1), "float32")
    assert elements(checkpoint, 0) == np.arange(6, dtype="<f4").tobytes()
    assert {dotted(row.path): row.value for row in checkpoint.values} == {
        "metadata.general.architecture": "llama",
        "metadata.layers": 32,
    }
    assert checkpoint.metadata["gguf"] == {"general.architecture": "llama", "layers": 32}


# Type -> its number, elements and bytes of a block, and the CRC-32 of what gguf 0.19 unpacks from the blocks of
# `blocks_of`, not-a-numbers as zeros.
PACKED = {
    "q4_0": (2, 32, 18, 0x42AA3551),
    "q4_1": (3, 32, 20, 0x5BB664CC),
    "q5_0": (6, 32, 22, 0x01F7D1C6),
    "q5_1": (7, 32, 24, 0x0731936D),
    "q8_0": (8, 32, 34, 0x5604E44F),
    "q2_k": (10, 256, 84, 0x7700ADA8),
    "q3_k": (11, 256, 110, 0x9EF64A9D),
    "q4_k": (12, 256, 144, 0x40E75CAA),
    "q5_k": (13, 256, 176, 0xE8D7A59F),
    "q6_k": (14, 256, 210, 0x88BFBFF4),
    "iq4_nl": (20, 32, 18, 0xA50E2BA2),
    "iq4_xs": (23, 256, 136, 0xB3682A8F),
    "tq1_0": (34, 256, 54, 0x02E3E336),
    "tq2_0": (35, 256, 66, 0x9266D3FE),
    "mxfp4": (39, 32, 17, 0x1AA00E10),
    "nvfp4": (40, 64, 36, 0x127A4591),
}
BLOCKS = 50


def blocks_of(name: str) -> bytes:
    return hashlib.shake_256(name.encode()).digest(BLOCKS * PACKED[name][2])


@pytest.mark.parametrize("name", PACKED)
def test_that_packed_types_have_the_values_that_llama_cpp_gives_them(write: Write, name: str) -> None:
    number, n, nbytes, crc = PACKED[name]
    stored = blocks_of(name)
    checkpoint = open_checkpoint(write(gguf_file([("w", (n, BLOCKS), number, 0)], stored)))
    (tensor,) = checkpoint.tensors
    assert (tensor.shape, tensor.dtype, tensor.nbytes) == ((BLOCKS, n), name, len(stored))
    assert (tensor.kind, tensor.quant) == ("quantized", {"qscheme": "blocks", "elements": n, "bytes": nbytes})
    values = np.nan_to_num(np.frombuffer(elements(checkpoint, 0), np.float32), nan=0.0) + np.float32(0)
    assert zlib.crc32(values.astype("<f4").tobytes()) == crc
    source = tensor_source(checkpoint, 0)
    with open_storage(source) as storage:
        piece = bytearray(7 * n)
        storage.read_into(2 * n + 3, memoryview(piece))
        assert piece == elements(checkpoint, 0)[2 * n + 3 :][: 7 * n]
    assert source.stored is not None
    with open_storage(source.stored) as storage:
        assert sha256(storage, source.stored.layout) == sha256_of(stored)


def test_that_the_scales_of_a_big_endian_file_are_swapped(write: Write) -> None:
    stored = np.array([0.5], ">f2").tobytes() + bytes(range(32))
    checkpoint = open_checkpoint(write(gguf_file([("w", (32,), 8, 0)], stored, sign=">")))
    source = tensor_source(checkpoint, 0)
    with open_storage(source) as storage:
        found = summary(storage, source.layout)
    assert (found.min, found.max, found.mean) == (0.0, 15.5, 7.75)


def test_that_types_with_a_codebook_are_counted_and_hashed_and_not_decoded(write: Write) -> None:
    stored = bytes(range(66))
    checkpoint = open_checkpoint(write(gguf_file([("w", (256, 1), 16, 0)], stored + bytes(16))))
    (tensor,) = checkpoint.tensors
    assert (tensor.shape, tensor.dtype, tensor.nbytes, tensor.unreadable) == ((1, 256), "iq2_xxs", 66, "")
    assert checkpoint.state_dicts[0].parameters == 256
    source = tensor_source(checkpoint, 0)
    with open_storage(source) as storage:
        found = summary(storage, source.layout)
        assert (found.count, found.min, found.nan) == (256, None, None)
        assert sha256(storage, source.layout) == sha256_of(stored)


def sha256_of(data: bytes) -> Any:
    return Digest(hashlib.sha256(data).hexdigest())


def test_that_values_of_every_kind_are_told(write: Write) -> None:
    words = b"".join([text(f"w{i}") for i in range(300)])
    pairs = [
        pair("inf", FLOAT32, struct.pack("<f", float("inf"))),
        pair("double", FLOAT64, struct.pack("<d", 2.5)),
        pair("yes", BOOL, b"\1"),
        pair("few", ARRAY, struct.pack("<IQ3I", UINT32, 3, 1, 2, 3)),
        pair("nested", ARRAY, struct.pack("<IQ", ARRAY, 1) + struct.pack("<IQ", STRING, 1) + text("deep")),
        pair("words", ARRAY, struct.pack("<IQ", STRING, 300) + words),
        pair("scores", ARRAY, struct.pack("<IQ300f", FLOAT32, 300, *[1.5] * 300)),
        pair("last", UINT32, struct.pack("<I", 7)),
    ]
    checkpoint = open_checkpoint(write(gguf_file([], pairs=pairs)))
    values = {row.path[-1]: row.value for row in checkpoint.values}
    assert (values["inf"], values["double"], values["yes"], values["last"]) == ("inf", 2.5, True, 7)
    assert (values["few"], values["nested"]) == ([1, 2, 3], [["deep"]])
    assert values["words"].startswith("300 items of type string: 'w0', 'w1'")
    assert values["scores"].startswith("300 items of type float32: 1.5")


def test_that_the_alignment_of_the_file_counts(write: Write) -> None:
    pairs = [pair("general.alignment", UINT32, struct.pack("<I", 128))]
    data = gguf_file([("w", (4,), 24, 0)], b"abcd" + bytes(124), pairs, alignment=128)
    assert elements(open_checkpoint(write(data)), 0) == b"abcd"
    pairs = [pair("general.alignment", UINT32, struct.pack("<I", 3))]
    checkpoint = open_checkpoint(write(gguf_file([("w", (4,), 24, 0)], b"abcd" + bytes(28), pairs)))
    assert [problem.code for problem in checkpoint.problems] == ["metadata"]
    assert elements(checkpoint, 0) == b"abcd"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (("w", (8,), 0, 1 << 62), "the file has"),
        (("w", (1 << 40,), 0, 0), "the file has"),
        (("w", (1 << 40, 1 << 40), 0, 0), "2\\*\\*63"),
        (("w", (100,), 12, 0), "whole blocks"),
        (("w", (), 12, 0), "whole block"),
        (("w", (1,), 4, 0), "type 4 is unknown"),
    ],
)
def test_that_a_lying_entry_marks_one_tensor_and_the_others_stay(write: Write, entry: Entry, says: str) -> None:
    checkpoint = open_checkpoint(write(gguf_file([entry, ("good", (1,), 0, 0)], struct.pack("<f", 2) + bytes(28))))
    assert [problem.code for problem in checkpoint.problems] == ["tensor_unreadable"]
    with pytest.raises(CorruptCheckpoint, match=says) as caught:
        tensor_source(checkpoint, 0)
    assert caught.value.code == "tensor_unreadable"
    assert elements(checkpoint, 1) == struct.pack("<f", 2)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (gguf_file([], counts=(1 << 60, 0)), "truncated"),
        (gguf_file([], counts=(0, 1 << 60)), "truncated"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 60) + bytes(16), "truncated"),
        (gguf_file([], pairs=[pair("a", ARRAY, struct.pack("<IQ", UINT32, 1 << 60))]), "truncated"),
        (gguf_file([], pairs=[pair("a", ARRAY, struct.pack("<IQ", STRING, 1 << 60))]), "truncated"),
        (gguf_file([], pairs=[pair("a", ARRAY, struct.pack("<IQ", ARRAY, 1) * 20)]), "too_deep"),
        (gguf_file([], pairs=[pair("a", 99, bytes(8))]), "corrupt"),
        (gguf_file([], version=9), "corrupt"),
        (gguf_file([("w", (1,) * 65, 0, 0)]), "corrupt"),
        (gguf_file([("w", (2, 2), 0, 0)])[:-4], "truncated"),
    ],
)
def test_that_a_header_that_lies_is_refused(write: Write, data: bytes, code: str) -> None:
    with pytest.raises(CorruptCheckpoint) as caught:
        open_checkpoint(write(data))
    assert caught.value.code == code


def test_that_doubled_names_and_odd_bytes_are_told(write: Write) -> None:
    entries = [("w\udcff", (1,), 0, 0), ("w\udcff", (1,), 0, 32)]
    pairs = [
        pair("split.no", UINT32, struct.pack("<I", 0)),
        pair("split.count", UINT32, struct.pack("<I", 3)),
        pair("split.count", UINT32, struct.pack("<I", 3)),
    ]
    data = gguf_file(entries, struct.pack("<f28xf28x", 1, 2) + bytes(64), pairs)
    checkpoint = open_checkpoint(write(data))
    codes = [problem.code for problem in checkpoint.problems]
    assert sorted(codes) == ["duplicate_key", "duplicate_key", "one_part", "trailing_bytes"]
    assert [row.occurrence for row in checkpoint.tensors] == [1, 2]
    assert [elements(checkpoint, i) for i in range(2)] == [struct.pack("<f", 1), struct.pack("<f", 2)]


def test_that_a_text_of_a_megabyte_is_told_by_its_length(write: Write) -> None:
    checkpoint = open_checkpoint(write(gguf_file([], pairs=[pair("t", STRING, text("x" * ((1 << 20) + 1)))])))
    assert checkpoint.values[0].value == "a text of 1,048,577 bytes"

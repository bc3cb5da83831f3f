from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdviewer.errors import CorruptCheckpoint, SDViewerError
from sdviewer.formats import open_checkpoint
from tests.formats.conftest import elements
from tests.formats.test_torch_zip import bytes_of

Write = Callable[..., Path]


def build(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def codes(data: bytes, write: Write) -> list[str]:
    return [problem.code for problem in open_checkpoint(write(data)).problems]


def test_that_a_file_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    names = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 complex64 float8_e4m3fn"
    tensors = {name: torch.arange(32, dtype=torch.uint8).view(getattr(torch, name)) for name in names.split()}
    tensors |= {"bool": torch.tensor([True, False]), "scalar": torch.tensor(2.5), "empty": torch.empty(0, 3)}
    tensors["matrix"] = torch.arange(6.0).reshape(2, 3)
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, metadata={"format": "pt", "note": "a\nb"})
    checkpoint = open_checkpoint(path)
    assert checkpoint.container == "safetensors"
    assert checkpoint.problems == ()
    assert checkpoint.metadata == {"safetensors": {"format": "pt", "note": "a\nb"}}
    with safe_open(path, "pt") as truth:
        assert {row.key for row in checkpoint.tensors} == set(truth.keys())
        for index, row in enumerate(checkpoint.tensors):
            found = truth.get_tensor(row.key)
            assert (row.shape, row.dtype) == (tuple(found.shape), str(found.dtype).removeprefix("torch."))
            assert row.stride == found.stride() or 0 in row.shape
            assert elements(checkpoint, index) == bytes_of(found.reshape(-1)), row.key
            assert row.requires_grad is None
    (state_dict,) = checkpoint.state_dicts
    assert state_dict.role == "model"
    assert state_dict.parameters == sum(value.numel() for value in tensors.values())


def test_that_the_order_of_the_header_is_kept(write: Write) -> None:
    header = {"b": tensor(4, 8, [1]), "a": tensor(0, 4, [1])}
    checkpoint = open_checkpoint(write(build(header, b"aaaabbbb")))
    assert checkpoint.state_dicts[0].keys == ("b", "a")
    assert [elements(checkpoint, i) for i in range(2)] == [b"bbbb", b"aaaa"]


def test_that_packed_four_bit_values_count_as_torch_counts_them(write: Write) -> None:
    checkpoint = open_checkpoint(write(build({"w": tensor(0, 8, [2, 8], "F4")}, bytes(8))))
    assert (checkpoint.tensors[0].dtype, checkpoint.tensors[0].shape) == ("float4_e2m1fn_x2", (2, 4))
    assert checkpoint.problems == ()


def test_that_six_bit_values_are_listed_with_their_bytes(write: Write) -> None:
    checkpoint = open_checkpoint(write(build({"w": tensor(0, 6, [8], "F6_E2M3")}, bytes(6))))
    assert (checkpoint.tensors[0].dtype, checkpoint.tensors[0].unreadable) == ("f6_e2m3", "")


@pytest.mark.parametrize(
    ("header", "data", "code"),
    [
        ({"a": tensor(0, 4, [1]), "b": tensor(8, 12, [1])}, bytes(12), "hole"),
        ({"a": tensor(4, 8, [1])}, bytes(8), "hole"),
        ({"a": tensor(0, 8, [2]), "b": tensor(4, 12, [2])}, bytes(12), "overlap"),
        ({"a": tensor(0, 8, [2]), "b": tensor(0, 8, [2])}, bytes(8), "overlap"),
        ({"a": tensor(0, 4, [1])}, bytes(9), "trailing_bytes"),
        ({"a": tensor(0, 4, [1]), "__metadata__": {"n": 5}}, bytes(4), "metadata"),
        (
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            bytes(4),
            "duplicate_key",
        ),
        ({"a": tensor(0, 4, [1]), "b": tensor(4, 8, [1], "F31")}, bytes(8), "tensor_unreadable"),
        ({"a": tensor(0, 4, [1]), "b": tensor(4, 8, [3])}, bytes(8), "tensor_unreadable"),
        ({"a": tensor(0, 4, [1]), "b": tensor(4, 800, [199])}, bytes(4), "tensor_unreadable"),
        ({"a": tensor(0, 4, [1]), "b": tensor(8, 4, [1])}, bytes(8), "tensor_unreadable"),
        ({"a": tensor(0, 4, [1]), "b": tensor(-4, 0, [1])}, bytes(4), "tensor_unreadable"),
        ({"a": tensor(0, 4, [1]), "b": tensor(4, 8, [2**62, 2**62])}, bytes(8), "tensor_unreadable"),
        ({"a": tensor(0, 4, [1]), "b": tensor(4, 8, [1] * 5000 + [2**62] * 5000)}, bytes(8), "tensor_unreadable"),
        ({"a": tensor(0, 4, [1]), "b": 5}, bytes(4), "bad_header"),
        (
            {"a": tensor(0, 4, [1]), "b": {"dtype": "F32", "shape": [True], "data_offsets": [0, 1]}},
            bytes(4),
            "bad_header",
        ),
    ],
)
def test_that_what_the_library_refuses_is_told_and_the_rest_is_read(
    write: Write, header: Any, data: bytes, code: str
) -> None:
    checkpoint = open_checkpoint(write(build(header, data)))
    assert code in [problem.code for problem in checkpoint.problems]
    good = next(i for i, row in enumerate(checkpoint.tensors) if not row.unreadable)
    assert len(elements(checkpoint, good)) > 0


def test_that_both_of_two_equal_names_are_told_apart(write: Write) -> None:
    entry = b'{"dtype":"U8","shape":[2],"data_offsets":[%d,%d]}'
    header = b'{"a":' + entry % (0, 2) + b',"a":' + entry % (2, 4) + b"}"
    checkpoint = open_checkpoint(write(build(header, b"1234")))
    assert [row.occurrence for row in checkpoint.tensors] == [1, 2]
    assert [elements(checkpoint, i) for i in range(2)] == [b"12", b"34"]


def test_that_blanks_before_the_brace_are_accepted(write: Write) -> None:
    text = b"   " + json.dumps({"a": tensor(0, 4, [1])}).encode()
    assert open_checkpoint(write(build(text, bytes(4)))).problems == ()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ((100_000_001).to_bytes(8, "little") + b"{}" + bytes(100), "safetensors allows"),
        ((5000).to_bytes(8, "little") + b'{"a":' + bytes(100), "breaks off"),
        (build(b'{"a":' + b"[" * 100_000), "nested too deeply|not JSON"),
        (build(b'{"a": NaN}'), "not JSON"),
        (build(b'{"a": ' + b"9" * 5000 + b"}"), "not JSON"),
        (build(b'{"a": \xff}'), "not JSON"),
        (build(b"{} {}"), "not JSON"),
        (build({"a": {"dtype": "F32", "shape": [1]}}), "data_offsets"),
    ],
)
def test_that_a_header_that_is_none_is_refused(write: Write, data: bytes, why: str) -> None:
    with pytest.raises(CorruptCheckpoint, match=why):
        open_checkpoint(write(data))


def test_that_a_file_cut_at_any_byte_is_opened_in_part_or_refused(write: Write) -> None:
    data = build({"a": tensor(0, 8, [2]), "b": tensor(8, 20, [3])}, bytes(range(20)))
    for length in range(len(data)):
        try:
            checkpoint = open_checkpoint(write(data[:length]))
        except SDViewerError:
            continue
        assert checkpoint.problems
        for index, row in enumerate(checkpoint.tensors):
            if not row.unreadable:
                elements(checkpoint, index)


def test_that_every_byte_of_the_header_may_be_damaged(write: Write) -> None:
    data = build({"a": tensor(0, 8, [2]), "__metadata__": {"k": "v"}}, bytes(8))
    for at in range(len(data) - 8):
        for flip in (0x01, 0x80):
            bad = bytearray(data)
            bad[at] ^= flip
            try:
                checkpoint = open_checkpoint(write(bytes(bad)))
            except SDViewerError:
                continue
            for index, row in enumerate(checkpoint.tensors):
                if not row.unreadable:
                    elements(checkpoint, index)

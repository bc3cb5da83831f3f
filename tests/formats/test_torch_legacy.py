from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from sdviewer.errors import CorruptCheckpoint, SDViewerError
from sdviewer.formats import open_checkpoint
from tests.formats.conftest import Save, elements
from tests.formats.test_torch_zip import agree

Write = Callable[..., Path]

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
VERSION = pickle.dumps(1001, 2)
SYSTEM = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}, 2)


def legacy(save: Save, thing: object, name: str = "model.pth") -> Path:
    return save(thing, name, _use_new_zipfile_serialization=False)


def test_that_a_legacy_file_is_read_as_torch_reads_it(save: Save) -> None:
    import torch

    base = torch.arange(30.0).reshape(5, 6)
    path = legacy(
        save,
        {
            "base": base,
            "column": base[:, 2],
            "half": torch.ones(3, dtype=torch.bfloat16),
            "long": torch.arange(4),
            "flag": torch.tensor([True, False]),
            "grad": torch.ones(2, requires_grad=True),
            "empty": torch.empty(0, 3),
        },
    )
    checkpoint = open_checkpoint(path)
    assert checkpoint.container == "torch-legacy"
    assert checkpoint.problems == ()
    agree(checkpoint, torch.load(path, weights_only=True))
    assert checkpoint.writer["sys_info"]["little_endian"] is True


def test_that_metadata_and_values_of_a_legacy_file_are_told(save: Save) -> None:
    import torch

    checkpoint = open_checkpoint(legacy(save, {"state_dict": torch.nn.Linear(2, 3).state_dict(), "epoch": 4}))
    assert checkpoint.metadata["state_dict"] == [{"path": ["state_dict"], "keys": {"": {"version": 1}}}]
    assert [state_dict.role for state_dict in checkpoint.state_dicts] == ["model"]
    assert checkpoint.values[0].value == 4


def test_that_the_place_of_every_storage_is_known(save: Save) -> None:
    import torch

    path = legacy(save, {f"w{i}": torch.full((i + 1,), i, dtype=torch.int16) for i in range(20)})
    checkpoint = open_checkpoint(path)
    data = path.read_bytes()
    for storage in checkpoint.source.storages.values():
        assert int.from_bytes(data[storage.offset - 8 : storage.offset], "little") == storage.numel
    last = max(storage.offset + storage.nbytes for storage in checkpoint.source.storages.values())
    assert last == len(data)
    assert [checkpoint.source.spans[i][1] for i in range(4)] == [checkpoint.source.spans[i + 1][0] for i in range(4)]


def test_that_a_file_longer_than_the_first_piece_is_read(save: Save) -> None:
    import torch

    path = legacy(save, {f"layer{i}.{'x' * 500}": torch.ones(1) for i in range(2500)})
    assert path.stat().st_size > 1 << 20
    assert len(open_checkpoint(path).tensors) == 2500


def test_that_the_source_text_of_a_class_is_told(write: Write) -> None:
    stream = b"\x80\2(X\6\0\0\0modulecmy.nets\nNet\nX\6\0\0\0net.pyX\x0f\0\0\0class Net: passtQ)\x81}X\1\0\0\0aK\1sb."
    data = MAGIC + VERSION + SYSTEM + stream + pickle.dumps([], 2)
    checkpoint = open_checkpoint(write(data))
    assert [item.cls for item in checkpoint.objects] == ["my.nets.Net"]
    assert ("builtins.str", "class Net: pass") in [(value.type, value.value) for value in checkpoint.values]


def test_that_a_view_of_old_torch_begins_where_its_metadata_says(write: Write) -> None:
    stream = (
        b"\x80\2}X\1\0\0\0wctorch._utils\n_rebuild_tensor\n"
        b"((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0kX\3\0\0\0cpuK\6X\1\0\0\0vK\2K\4\x87tQ"
        b"K\1K\2\x85K\1\x85tRs."
    )
    numbers = b"".join([bytes([i, 0, 0, 0]) for i in range(6)])
    data = MAGIC + VERSION + SYSTEM + stream + pickle.dumps(["k"], 2) + (6).to_bytes(8, "little") + numbers
    checkpoint = open_checkpoint(write(data))
    assert checkpoint.tensors[0].storage_offset == 3
    assert checkpoint.tensors[0].requires_grad is None
    assert elements(checkpoint, 0) == numbers[12:20]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (MAGIC + VERSION + SYSTEM, "objects cannot be read"),
        (MAGIC + VERSION + pickle.dumps([1], 2), "cannot be read"),
        (MAGIC + VERSION + pickle.dumps([1], 2) + pickle.dumps({}, 2) + pickle.dumps([], 2), "is no dict"),
        (MAGIC + VERSION + SYSTEM + pickle.dumps({}, 2) + pickle.dumps(5, 2), "is not one"),
        (MAGIC + VERSION + SYSTEM + pickle.dumps({}, 2) + pickle.dumps([None], 2), "is not one"),
    ],
)
def test_that_a_stream_that_is_none_is_refused(write: Write, data: bytes, why: str) -> None:
    with pytest.raises(CorruptCheckpoint, match=why):
        open_checkpoint(write(data))


def test_that_a_storage_that_claims_more_than_the_file_is_told(save: Save, write: Write) -> None:
    import torch

    path = legacy(save, {"w": torch.arange(4.0)})
    data = bytearray(path.read_bytes())
    data[-24:-16] = (1 << 62).to_bytes(8, "little")
    checkpoint = open_checkpoint(write(bytes(data)))
    assert "truncated" in [problem.code for problem in checkpoint.problems]
    assert elements(checkpoint, 0) == bytes(data[-16:])


def test_that_a_file_cut_at_any_byte_is_opened_in_part_or_refused(save: Save, write: Write) -> None:
    import torch

    path = legacy(save, {"a": torch.ones(3), "b": {"c": torch.ones(2, 2), "d": 5}})
    data = path.read_bytes()
    opened = 0
    for length in range(len(data)):
        try:
            checkpoint = open_checkpoint(write(data[:length], "cut.pth"))
        except SDViewerError:
            continue
        opened += 1
        assert any(problem.severity == "error" for problem in checkpoint.problems)
        for index, tensor in enumerate(checkpoint.tensors):
            if not tensor.unreadable:
                elements(checkpoint, index)
    assert opened > 30

"""Tars of torch before 0.1.10, written here as its loader in torch reads them."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sdviewer.errors import CorruptCheckpoint, SDViewerError, UnknownFormat
from sdviewer.formats import open_checkpoint
from sdviewer.formats.pickle_streams import pickle_streams
from tests.formats.conftest import elements

Write = Callable[..., Path]


class _Named:
    """Something that is written as a name of torch."""

    def __init__(self, name: str) -> None:
        self.name = name


class Id:
    """Something that is written as a persistent id."""

    def __init__(self, key: Any) -> None:
        self.key = key


class _Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    def persistent_id(self, thing: Any) -> Any:
        return thing.key if isinstance(thing, Id) else None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, _Named):
            module, _, name = obj.name.rpartition(".")
            self.write(f"c{module}\n{name}\n".encode())
        else:
            super().save(obj, save_persistent_id)


def dumps(thing: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file, 2).dump(thing)
    return file.getvalue()


def storages(items: list[tuple[int, str, bytes, int]], views: list[tuple[int, int, int, int]]) -> bytes:
    """(key, class, bytes, numel) of each storage, (key, root, offset, numel) of each view."""
    parts = [dumps(len(items))]
    for key, cls, data, numel in items:
        parts += (dumps((key, "cpu", _Named(f"torch.{cls}"))), struct.pack("<q", numel), data)
    return b"".join([*parts, dumps(views)])


def tensors(items: list[tuple[int, int, tuple[int, ...], tuple[int, ...], int]]) -> bytes:
    """(key, storage key, size, stride, offset) of each tensor."""
    parts = [dumps(len(items))]
    for key, storage, size, stride, offset in items:
        parts += (
            dumps((key, storage, _Named("torch.FloatTensor"))),
            struct.pack(f"<ii{2 * len(size) + 1}q", len(size), 0, *size, *stride, offset),
        )
    return b"".join(parts)


def tar(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


NUMBERS = struct.pack("<12f", *range(12))


def members() -> dict[str, bytes]:
    return {
        "sys_info": dumps({"protocol_version": 1000}),
        "pickle": dumps({"weight": Id("21"), "again": Id("21"), "part": Id("22"), "steps": Id("23"), "epoch": 4}),
        "tensors": tensors([(21, 11, (3, 4), (4, 1), 0), (22, 12, (2,), (2,), 1), (23, 13, (2,), (1,), 0)]),
        "storages": storages(
            [(11, "FloatStorage", NUMBERS, 12), (13, "LongStorage", struct.pack("<2q", -1, 7), 2)],
            [(12, 11, 4, 5)],
        ),
    }


def test_that_a_tar_is_read_as_torch_reads_it(write: Write) -> None:
    import torch

    path = write(tar(members()), "model.pth.tar")
    truth = torch.load(path, weights_only=False)
    checkpoint = open_checkpoint(path)
    assert (checkpoint.container, checkpoint.problems) == ("torch-tar", ())
    assert [row.key for row in checkpoint.tensors] == ["weight", "again", "part", "steps"]
    for index, row in enumerate(checkpoint.tensors):
        tensor = truth[row.key]
        assert (row.shape, row.stride) == (tuple(tensor.shape), tensor.stride())
        assert (row.dtype, row.storage_offset) == (str(tensor.dtype)[6:], tensor.storage_offset())
        assert checkpoint.storages[row.storage or ""].nbytes == tensor.untyped_storage().nbytes()
        assert list(elements(checkpoint, index)) == tensor.contiguous().view(-1).view(torch.uint8).tolist()
    assert [row.storage for row in checkpoint.tensors] == ["11", "11", "12", "13"]
    assert [value.value for value in checkpoint.values] == [4]


def test_that_the_source_text_of_a_class_is_told(write: Write) -> None:
    stream = b"\x80\2(cmy.nets\nNet\nX\6\0\0\0net.pyX\x0f\0\0\0class Net: passtQ)\x81}X\1\0\0\0wX\2\0\0\x0021Qsb."
    checkpoint = open_checkpoint(write(tar({**members(), "pickle": stream})))
    assert [item.cls for item in checkpoint.objects] == ["my.nets.Net"]
    assert "class Net: pass" in [value.value for value in checkpoint.values]
    assert checkpoint.tensors[0].shape == (3, 4)


def test_that_every_pickle_of_a_tar_is_scanned(write: Write) -> None:
    evil = b"cposix\nsystem\n(S'true'\ntR."
    for name in ("sys_info", "pickle", "tensors", "storages"):
        streams = pickle_streams(write(tar({**members(), name: evil})))
        assert any(evil in stream.data for stream in streams), name
    streams = pickle_streams(write(tar(members())))
    assert len(streams) == 1 + 1 + 4 + 4
    assert all(stream.number_ids and stream.refused for stream in streams)


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("storages", storages([(11, "FloatStorage", NUMBERS, 1 << 60)], []), "claims"),
        ("storages", storages([(11, "FloatStorage", NUMBERS, -1)], []), "no number of elements"),
        ("storages", storages([(11, "NoStorage", NUMBERS, 12)], []), "no class"),
        ("storages", storages([(11, "FloatStorage", NUMBERS, 12)], [(12, 99, 0, 1)]), "is not there"),
        ("storages", dumps(1 << 60), "breaks off"),
        ("tensors", dumps(1 << 40), "breaks off"),
        ("tensors", dumps(1) + dumps((21, 11, None)) + struct.pack("<iiq", 1 << 30, 0, 0), "dimensions"),
        ("tensors", dumps("x"), "how many"),
    ],
)
def test_that_damage_of_a_member_leaves_the_rest(write: Write, name: str, data: bytes, why: str) -> None:
    checkpoint = open_checkpoint(write(tar({**members(), name: data})))
    assert any(problem.code == "truncated" and why in problem.message for problem in checkpoint.problems)
    for index, row in enumerate(checkpoint.tensors):
        if not row.unreadable:
            elements(checkpoint, index)


def test_that_a_view_outside_of_its_storage_is_unreadable(write: Write) -> None:
    data = storages([(11, "FloatStorage", NUMBERS, 12)], [(12, 11, 10, 5)])
    checkpoint = open_checkpoint(write(tar({**members(), "storages": data})))
    (part,) = [row for row in checkpoint.tensors if row.key == "part"]
    assert "no part of storage 11" in part.unreadable


def test_that_a_tar_cut_anywhere_is_opened_in_part_or_refused(write: Write) -> None:
    data = tar(members())
    opened = 0
    for length in range(0, len(data), 97):
        try:
            checkpoint = open_checkpoint(write(data[:length], "cut.tar"))
        except SDViewerError as error:
            assert str(error)
            continue
        opened += 1
        for index, row in enumerate(checkpoint.tensors):
            if not row.unreadable:
                elements(checkpoint, index)
    assert opened > 5


def test_that_an_ordinary_tar_and_a_broken_object_are_refused(write: Write) -> None:
    with pytest.raises(UnknownFormat, match="a tar archive"):
        open_checkpoint(write(tar({"model.pt": b"x"})))
    with pytest.raises(CorruptCheckpoint, match="objects cannot be read"):
        open_checkpoint(write(tar({**members(), "pickle": b"\x80\2]\xfe"})))

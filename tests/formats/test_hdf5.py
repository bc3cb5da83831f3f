from __future__ import annotations

import io
import json
import queue
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest

from sdviewer.core.paths import dotted
from sdviewer.core.progress import no_progress
from sdviewer.errors import CorruptCheckpoint, UnsupportedContainer
from sdviewer.formats import open_checkpoint, open_storage, tensor_source
from sdviewer.formats.file import opened
from sdviewer.formats.hdf5 import _Reading
from sdviewer.formats.hdf5_child import Place
from tests.formats.conftest import Member, build_zip, elements

Write = Callable[..., Path]


def h5(build: Callable[[h5py.File], None], **options: int) -> bytes:
    """The bytes of an HDF5 file."""
    out = io.BytesIO()
    with h5py.File(out, "w", **options) as file:
        build(file)
    return out.getvalue()


def weights(file: h5py.File) -> None:
    file["layers/dense/vars/0"] = np.arange(6, dtype=np.float32).reshape(2, 3)
    file["optimizer/vars/0"] = np.int64(7)


def unreadable(data: bytes, write: Write) -> str:
    checkpoint = open_checkpoint(write(data))
    (row,) = checkpoint.tensors
    assert [problem.code for problem in checkpoint.problems] == ["tensor_unreadable"]
    return row.unreadable


def test_that_numbers_are_read_from_where_they_lie(write: Write) -> None:
    arrays = {
        "a.float": np.arange(6, dtype="<f4").reshape(2, 3),
        "b.big": np.arange(3, dtype=">f8"),
        "c.bool": np.array([True, False]),
        "d.complex": np.array([1 + 2j], "<c16"),
        "e.int": np.arange(3, dtype="<i8"),
        "f.half": np.ones(2, "<f2"),
        "g.scalar": np.array(3, "<f4"),
        "h.empty": np.zeros((0, 2), "<f4"),
        "i.uint": np.arange(3, dtype="<u2"),
    }

    def build(file: h5py.File) -> None:
        for name, array in arrays.items():
            file[name] = array

    for options in ({}, {"userblock_size": 512}):
        checkpoint = open_checkpoint(write(h5(build, **options), "model.h5"))
        assert (checkpoint.container, checkpoint.problems) == ("hdf5", ())
        rows = {row.key: (i, row) for i, row in enumerate(checkpoint.tensors)}
        assert set(rows) == set(arrays)
        for name, array in arrays.items():
            index, row = rows[name]
            assert (row.shape, row.dtype) == (array.shape, array.dtype.newbyteorder("=").name)
            assert elements(checkpoint, index) == array.astype(array.dtype.newbyteorder("<")).tobytes()


def test_that_a_keras_model_has_its_state_dicts_and_attributes(write: Write) -> None:
    def build(file: h5py.File) -> None:
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["model_config"] = json.dumps({"class_name": "Lambda", "function": ["code"]})
        group = file.create_group("model_weights/dense/dense")
        group.attrs["weight_names"] = np.array([b"dense/kernel:0"])
        group["kernel:0"] = np.ones((2, 3), np.float32)
        file["optimizer_weights/iter"] = np.int64(5)

    checkpoint = open_checkpoint(write(h5(build)))
    assert [(dict_.path, dict_.role, dict_.keys) for dict_ in checkpoint.state_dicts] == [
        (("model_weights",), "model", ("dense.dense.kernel:0",)),
        (("optimizer_weights",), "optimizer", ("iter",)),
    ]
    assert checkpoint.writer == {"keras_version": "2.15.0"}
    values = {dotted(row.path): row.value for row in checkpoint.values}
    assert values["model_weights.dense.dense.weight_names"] == ["dense/kernel:0"]
    assert [problem.code for problem in checkpoint.problems] == ["code_inside"]


@pytest.mark.parametrize("method", [0, 8])
def test_that_a_keras_archive_is_read_in_its_zip(write: Write, method: int) -> None:
    members = [
        Member("metadata.json", b'{"keras_version": "3.5.0"}', method=method),
        Member("config.json", b'{"class_name": "Sequential"}', method=method),
        Member("model.weights.h5", h5(weights), method=method),
    ]
    checkpoint = open_checkpoint(write(build_zip(members).data, "model.keras"))
    assert (checkpoint.container, checkpoint.problems) == ("hdf5", ())
    assert checkpoint.metadata == {"keras": {"keras_version": "3.5.0"}}
    assert [row.path for row in checkpoint.tensors] == [
        ("layers", "dense", "vars", "0"),
        ("optimizer", "vars", "0"),
    ]
    assert elements(checkpoint, 0) == np.arange(6, dtype="<f4").tobytes()
    assert elements(checkpoint, 1) == np.int64(7).tobytes()


def test_that_bfloat16_is_known_by_its_attribute(write: Write) -> None:
    array = np.array([1, -2], ml_dtypes.bfloat16)

    def build(file: h5py.File) -> None:
        file["w"] = array.view("V2")
        file["w"].attrs["dtype"] = "bfloat16"

    checkpoint = open_checkpoint(write(h5(build)))
    assert checkpoint.tensors[0].dtype == "bfloat16"
    assert elements(checkpoint, 0) == array.tobytes()


def test_that_two_links_to_one_dataset_share_its_bytes_and_a_cycle_ends(write: Write) -> None:
    def build(file: h5py.File) -> None:
        file["a/w"] = np.ones(4, np.float32)
        file["a/tied"] = file["a/w"]
        file["a/loop"] = file["a"]

    checkpoint = open_checkpoint(write(h5(build)))
    first, second = checkpoint.tensors
    assert first.storage == second.storage
    assert [(storage.nbytes, storage.tensors) for storage in checkpoint.storages.values()] == [(16, 2)]
    assert [dotted(row.path) for row in checkpoint.values] == ["a.loop"]


def test_that_nothing_leads_out_of_the_file(write: Write, tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.full(4, 7, np.float32)

    def build(file: h5py.File) -> None:
        file["external"] = h5py.ExternalLink(str(secret), "/x")
        file["soft"] = h5py.SoftLink("/external")
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource(str(secret), "x", (4,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("raw", (4,), "f4", external=[(str(secret), 0, 16)])

    checkpoint = open_checkpoint(write(h5(build)))
    assert {row.key: row.unreadable.partition(",")[0] for row in checkpoint.tensors} == {
        "raw": "its numbers are in another file",
        "virtual": "it is put together from other datasets",
    }
    assert {row.path[0]: row.type for row in checkpoint.values} == {
        "external": "h5py.ExternalLink",
        "soft": "h5py.SoftLink",
    }
    assert "external_link" in [problem.code for problem in checkpoint.problems]


def test_that_numbers_which_lie_in_no_single_place_are_marked(write: Write) -> None:
    assert "never written" in unreadable(h5(lambda f: f.create_dataset("w", (4,), "f4")), write)
    assert "of its own length" in unreadable(h5(lambda f: f.create_dataset("w", data="a text")), write)


CHUNKED: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (3, 4, 5)},
    "one": {"chunks": (7, 9, 11)},
    "gzip": {"chunks": (3, 4, 5), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"chunks": (2, 9, 2), "compression": "lzf"},
}


@pytest.mark.parametrize("name", CHUNKED)
def test_that_numbers_in_chunks_are_read_piece_by_piece(write: Write, name: str) -> None:
    options, dtype = CHUNKED[name], ">i2" if name == "gzip" else "<f4"
    data = np.arange(7 * 9 * 11).reshape(7, 9, 11).astype(dtype)
    checkpoint = open_checkpoint(write(h5(lambda f: f.create_dataset("a/w", data=data, **options))))
    (row,) = checkpoint.tensors
    assert (row.shape, row.dtype, row.unreadable) == ((7, 9, 11), np.dtype(dtype).newbyteorder("=").name, "")
    assert checkpoint.problems == ()
    assert elements(checkpoint, 0) == data.astype(dtype.replace(">", "<")).tobytes()
    stored = data.tobytes()
    with open_storage(tensor_source(checkpoint, 0)) as storage:
        for start, length in ((0, 1), (5, 300), (len(stored) - 7, 7), (0, len(stored))):
            piece = bytearray(length)
            storage.read_into(start, memoryview(piece))
            assert piece == stored[start : start + length]
        with pytest.raises(CorruptCheckpoint):
            storage.read_into(len(stored), memoryview(bytearray(1)))


def test_that_what_was_not_written_of_chunks_has_the_value_that_fills_it(write: Write) -> None:
    def build(file: h5py.File) -> None:
        made = file.create_dataset("w", (6, 6), "f4", chunks=(2, 2), fillvalue=2.5)
        made[0, 0] = 1

    expected = np.full((6, 6), 2.5, np.float32)
    expected[0, 0] = 1
    assert elements(open_checkpoint(write(h5(build))), 0) == expected.tobytes()


def test_that_numbers_inside_of_a_header_are_read(write: Write) -> None:
    def build(file: h5py.File) -> None:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.COMPACT)
        made = h5py.h5d.create(file.id, b"w", h5py.h5t.IEEE_F32LE, h5py.h5s.create(h5py.h5s.SCALAR), dcpl=plan)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(1.5, np.float32))

    assert elements(open_checkpoint(write(h5(build))), 0) == np.float32(1.5).tobytes()


@pytest.mark.parametrize("method", [0, 8])
def test_that_chunks_in_a_keras_archive_are_read(write: Write, method: int) -> None:
    data = np.arange(100, dtype=np.float32)
    inner = h5(lambda f: f.create_dataset("layers/w", data=data, chunks=(7,), compression="gzip"))
    archive = build_zip([Member("metadata.json", b"{}"), Member("model.weights.h5", inner, method=method)]).data
    assert elements(open_checkpoint(write(archive, "m.keras")), 0) == data.tobytes()


def test_that_a_filter_of_somebody_else_is_not_looked_for(write: Write) -> None:
    def build(file: h5py.File) -> None:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((4,))
        plan.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
        h5py.h5d.create(file.id, b"w", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((8,)), dcpl=plan)

    assert "32015" in unreadable(h5(build), write)


def test_that_a_claim_beyond_what_any_filter_packs_is_not_believed(write: Write) -> None:
    def build(file: h5py.File) -> None:
        file.create_dataset("w", (1 << 40,), "f4", chunks=(1024,), compression="gzip")

    assert "are stored" in unreadable(h5(build), write)


def test_that_chunks_which_are_broken_are_a_message(write: Write) -> None:
    data = np.random.default_rng(1).random(4000)
    file = bytearray(h5(lambda f: f.create_dataset("w", data=data, chunks=(1000,), compression="gzip")))
    place = len(file) - 2000
    file[place : place + 500] = bytes(500)
    checkpoint = open_checkpoint(write(bytes(file)))
    with pytest.raises(CorruptCheckpoint, match="HDF5 library"):
        elements(checkpoint, 0)


def test_that_other_types_keep_their_bytes(write: Write) -> None:
    array = np.zeros(2, [("a", "<f4"), ("b", "<i2")])
    checkpoint = open_checkpoint(write(h5(lambda f: f.create_dataset("w", data=array))))
    assert (checkpoint.tensors[0].dtype, checkpoint.tensors[0].nbytes) == ("compound48", 12)
    assert elements(checkpoint, 0) == array.tobytes()


def test_that_a_missing_library_says_how_to_get_it(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(h5(weights))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UnsupportedContainer, match="h5py") as caught:
        open_checkpoint(path)
    assert caught.value.code == "extra_needed"
    assert "sdviewer[hdf5]" in caught.value.remedy


def test_that_a_damaged_file_is_a_message(write: Write) -> None:
    whole = h5(weights)
    for data in (whole[:600], whole[:8] + b"\xff" * 500, b"\x89HDF\r\n\x1a\n" + bytes(100)):
        with pytest.raises(CorruptCheckpoint, match="HDF5 library"):
            open_checkpoint(write(data))


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([b""], "crashed"),
        ([b"nonsense\n", b""], "makes no sense"),
        ([b"[]\n", b""], "makes no sense"),
        ([b'{"kind": "end", "path": [], "error": "bad heap"}\n'], "bad heap"),
    ],
)
def test_that_a_library_that_breaks_off_leaves_what_it_said_before(write: Write, lines: list[bytes], says: str) -> None:
    row = {"kind": "tensor", "path": ["w"], "shape": [2], "dtype": "float32", "itemsize": 4, "swapped": False}
    there = {**row, "start": 8, "there": 8, "in_chunks": False, "unreadable": "", "address": 1}
    beyond = {**there, "path": ["x"], "start": 1 << 40, "address": 2}
    with opened(str(write(bytes(100)))) as file:
        told: queue.Queue[bytes] = queue.Queue()
        for line in [json.dumps(there).encode(), json.dumps(beyond).encode(), *lines]:
            told.put(line)
        checkpoint = _Reading(file).checkpoint(told, Place(file.fd, 0, 100), no_progress)
        assert [bool(tensor.unreadable) for tensor in checkpoint.tensors] == [False, True]
        assert says in checkpoint.problems[0].message
        silent: queue.Queue[bytes] = queue.Queue()
        for line in lines:
            silent.put(line)
        with pytest.raises(CorruptCheckpoint, match=says):
            _Reading(file).checkpoint(silent, Place(file.fd, 0, 100), no_progress)

from __future__ import annotations

import io
import json
import queue
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest

from sdviewer.core.paths import dotted
from sdviewer.core.progress import no_progress
from sdviewer.errors import CorruptCheckpoint, UnsupportedContainer
from sdviewer.formats import open_checkpoint
from sdviewer.formats.file import opened
from sdviewer.formats.hdf5 import _Place, _Reading
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
    data = np.arange(10.0)
    assert "compressed chunks" in unreadable(h5(lambda f: f.create_dataset("w", data=data, compression="gzip")), write)
    assert "chunks" in unreadable(h5(lambda f: f.create_dataset("w", data=data, chunks=(5,))), write)
    assert "never written" in unreadable(h5(lambda f: f.create_dataset("w", (4,), "f4")), write)
    assert "of its own length" in unreadable(h5(lambda f: f.create_dataset("w", data="a text")), write)
    one = open_checkpoint(write(h5(lambda f: f.create_dataset("w", data=data, chunks=(10,)))))
    assert elements(one, 0) == data.tobytes()


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
    there = {**row, "start": 8, "there": 8, "unreadable": "", "address": 1}
    beyond = {**there, "path": ["x"], "start": 1 << 40, "address": 2}
    with opened(str(write(bytes(100)))) as file:
        told: queue.Queue[bytes] = queue.Queue()
        for line in [json.dumps(there).encode(), json.dumps(beyond).encode(), *lines]:
            told.put(line)
        checkpoint = _Reading(file).checkpoint(told, _Place(file.fd, 0, 100), no_progress)
        assert [bool(tensor.unreadable) for tensor in checkpoint.tensors] == [False, True]
        assert says in checkpoint.problems[0].message
        silent: queue.Queue[bytes] = queue.Queue()
        for line in lines:
            silent.put(line)
        with pytest.raises(CorruptCheckpoint, match=says):
            _Reading(file).checkpoint(silent, _Place(file.fd, 0, 100), no_progress)

"""Pickles that are no torch files: their tensors, their arrays, and what else they hold."""

from __future__ import annotations

import collections
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdviewer.errors import CorruptCheckpoint, SDViewerError, UnknownFormat, UnsupportedContainer
from sdviewer.formats import open_checkpoint, save
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Recipe
from tests.formats.conftest import elements
from tests.formats.test_torch_zip import by_key, bytes_of

Write = Callable[..., Path]


@pytest.mark.parametrize("protocol", range(6))
def test_that_tensors_are_read_as_pickle_reads_them(write: Write, protocol: int) -> None:
    import torch

    things = {
        "weight": torch.arange(6.0).reshape(2, 3),
        "column": torch.arange(12.0).reshape(3, 4)[:, 1],
        "half": torch.ones(2, dtype=torch.bfloat16),
        "parameter": torch.nn.Parameter(torch.tensor([1.5, -0.0, float("nan")])),
        "bytes": torch.arange(256).to(torch.uint8),
        "epoch": 3,
        "array": np.arange(4),
    }
    checkpoint = open_checkpoint(write(pickle.dumps(things, protocol), "model.pkl"))
    assert (checkpoint.container, checkpoint.problems) == ("pickle", ())
    assert checkpoint.writer["protocol"] == protocol
    rows = by_key(checkpoint)
    assert list(rows) == ["weight", "column", "half", "parameter", "bytes"]
    for key, (index, row) in rows.items():
        truth: Any = things[key]
        assert (row.shape, row.stride) == (tuple(truth.shape), truth.stride())
        assert (row.dtype, row.requires_grad) == (str(truth.dtype)[6:], truth.requires_grad)
        assert row.storage is not None
        assert checkpoint.storages[row.storage].nbytes == truth.untyped_storage().nbytes()
        assert elements(checkpoint, index) == bytes_of(truth.detach())
    assert [(value.path, value.type) for value in checkpoint.values] == [
        (("epoch",), "builtins.int"),
        (("array",), "numpy.ndarray"),
    ]


def test_that_a_pickled_module_is_walked(write: Write) -> None:
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    checkpoint = open_checkpoint(write(pickle.dumps(module)))
    (state_dict,) = checkpoint.state_dicts
    assert list(state_dict.keys) == list(module.state_dict())
    for key, (index, _) in by_key(checkpoint).items():
        assert elements(checkpoint, index) == bytes_of(module.state_dict()[key].reshape(-1))


@pytest.mark.parametrize("protocol", range(6))
def test_that_arrays_are_the_tensors_where_torch_made_none(write: Write, protocol: int) -> None:
    arrays = {
        "float": np.arange(6, dtype="f4").reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype="i2").reshape(2, 3)),
        "bool": np.array([True, False]),
        "unsigned": np.arange(3, dtype="u2") + 65_000,
        "complex": np.array([1 + 2j]),
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 3)),
    }
    others = {"big-endian": np.arange(3, dtype=">f4"), "objects": np.array([None, 1]), "number": np.float32(2.5)}
    checkpoint = open_checkpoint(write(pickle.dumps({"model": {**arrays, **others}, "author": "x"}, protocol)))
    assert checkpoint.problems == ()
    rows = by_key(checkpoint)
    assert list(rows) == list(arrays)
    for key, (index, row) in rows.items():
        assert (row.shape, row.dtype, row.cls) == (arrays[key].shape, str(arrays[key].dtype), "numpy.ndarray")
        assert row.requires_grad is None
        assert elements(checkpoint, index) == arrays[key].tobytes()
    (state_dict,) = checkpoint.state_dicts
    assert (state_dict.path, state_dict.role) == (("model",), "model")
    told = {value.path[1]: value for value in checkpoint.values if len(value.path) == 2}
    assert told["number"].value == 2.5
    assert told["big-endian"].type == "numpy.ndarray"


def test_that_a_pickle_of_python_2_is_read(write: Write) -> None:
    data = (
        b"(dp0\nS'w'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\ntp6\nRp7\n"
        b"(I1\n(I2\ntp8\ncnumpy\ndtype\np9\n(S'f4'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\n"
        b"bI00\nS'\\x00\\x00\\x80?\\'\\n\\x00@'\np15\ntp16\nbsS'name'\nS'caf\\xc3\\xa9'\ns."
    )
    checkpoint = open_checkpoint(write(data))
    assert elements(checkpoint, 0) == b"\x00\x00\x80?'\n\x00@"
    assert [value.value for value in checkpoint.values] == ["café"]
    binary = b"}q\0(U\1aq\1K\5U\4rateq\2G?\xf0\0\0\0\0\0\0u."
    assert [value.value for value in open_checkpoint(write(binary)).values] == [5, 1.0]


def test_that_a_pickle_without_tensors_shows_its_values(write: Write) -> None:
    checkpoint = open_checkpoint(write(pickle.dumps(collections.OrderedDict(a=1, b=[None, "x"]))))
    assert [value.value for value in checkpoint.values] == [1, None, "x"]
    assert not checkpoint.tensors
    assert [value.value for value in open_checkpoint(write(b"\x80\2N.")).values] == [None]


def test_that_several_pickles_in_a_file_are_all_told(write: Write) -> None:
    data = pickle.dumps({"a": 1}) + pickle.dumps(["b"], 0) + b"\0junk"
    checkpoint = open_checkpoint(write(data))
    assert [value.value for value in checkpoint.values] == [1, "b"]
    assert {problem.code for problem in checkpoint.problems} == {"several_pickles", "trailing_bytes"}


def test_that_a_pickle_cut_anywhere_gives_what_is_left(write: Write) -> None:
    import torch

    things = {"a": torch.arange(3.0), "b": {"c": torch.ones(2), "d": 5}}
    data = pickle.dumps(things, 2)
    most = 0
    for length in range(0, len(data), 3):
        try:
            checkpoint = open_checkpoint(write(data[:length], "cut.pkl"))
        except SDViewerError as error:
            assert error.code != "internal"
            continue
        assert "truncated" in [problem.code for problem in checkpoint.problems]
        for index, tensor in enumerate(checkpoint.tensors):
            if not tensor.unreadable:
                elements(checkpoint, index)
        most = max(most, len(checkpoint.tensors))
    assert most == 2


def test_that_a_damaged_pickle_is_refused(write: Write) -> None:
    with pytest.raises(CorruptCheckpoint, match="no opcode") as caught:
        open_checkpoint(write(b"\x80\2]K\1\xfea."))
    assert caught.value.code == "bad_pickle"


@pytest.mark.parametrize(
    "data", [b"cposix\nsystem\n(S'true'\ntR.", b"\x80\2cnt\nsystem\nX\4\0\0\0true\x85R.", b"(S'true'\nios\nsystem\n."]
)
def test_that_a_pickle_that_is_nothing_but_an_attack_is_refused(write: Write, data: bytes) -> None:
    with pytest.raises(UnknownFormat, match=r"all that unpickling it would do is call (os|posix|nt)\.system"):
        open_checkpoint(write(data))


def test_that_an_attack_beside_data_is_shown_and_not_run(write: Write, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    data = b"(dVa\nI1\nsVb\ncposix\nsystem\n(S'touch " + str(marker).encode() + b"'\ntRs."
    checkpoint = open_checkpoint(write(data))
    assert [item.cls for item in checkpoint.objects] == ["posix.system"]
    assert not marker.exists()


def test_that_broken_bytes_of_a_tensor_leave_the_others(write: Write) -> None:
    import torch

    data = pickle.dumps({"a": torch.zeros(3), "b": torch.ones(2)}, 4)
    at = data.index(b"\x80\x02\x8a\nl\xfc")
    broken = data[: at + 3] + b"\xff" + data[at + 4 :]
    checkpoint = open_checkpoint(write(broken))
    rows = by_key(checkpoint)
    assert list(rows) == ["b"]
    assert elements(checkpoint, rows["b"][0]) == bytes_of(torch.ones(2))
    assert {"inner_file", "tensor_unreadable"} <= {problem.code for problem in checkpoint.problems}


def test_that_bytes_shorter_than_a_tensor_are_told(write: Write) -> None:
    array = np.arange(4, dtype="f4")
    data = pickle.dumps({"w": array}, 2).replace(b"K\4\x85", b"K\x09\x85")
    checkpoint = open_checkpoint(write(data))
    assert checkpoint.tensors[0].shape == (9,)
    assert "reaches byte 36" in checkpoint.tensors[0].unreadable


def test_that_prose_is_no_text_pickle(write: Write) -> None:
    for text in (
        "It was a dark and stormy night.\n",
        "Vers libre\nand more.\n",
        "(a note) to the reader: nothing here.\n",
        "class Net(Module):\n  pass\n",
        "import this\n",
        "city (of the),\nl ist.\n",
        "N. Smith\n",
        "]. is how a list ends\n",
        "Some\ntext\n" * 2000,
        "import torch\n" * 1000,
    ):
        with pytest.raises(SDViewerError) as caught:
            open_checkpoint(write(text.encode()))
        assert caught.value.code == "unknown_format", text


def test_that_a_pickle_is_not_saved_as_a_pickle(write: Write, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write(pickle.dumps({"w": np.ones(3)})))
    plan = make_plan(Recipe(), checkpoint)
    with pytest.raises(UnsupportedContainer, match="can be read and not written"):
        save(checkpoint, plan, tmp_path / "out.pickle")
    assert not (tmp_path / "out.pickle").exists()


def test_that_a_large_pickle_is_not_read(tmp_path: Path) -> None:
    array = np.zeros(1 << 20)
    head = pickle.dumps({"w": array, "note": "x"}, 4)
    at = head.index((array.nbytes).to_bytes(4, "little") + bytes(64))
    path = tmp_path / "large.pkl"
    nbytes = 1 << 31
    with path.open("wb") as file:
        file.write(head[: at - 1].replace(b"\x4a\0\0\x10\0\x85", b"\x4a\0\0\0\x10\x85"))
        file.write(b"\x8e" + nbytes.to_bytes(8, "little"))
        file.seek(nbytes, 1)
        file.write(head[at + 4 + array.nbytes :])
    checkpoint = open_checkpoint(path)
    assert checkpoint.tensors[0].shape == (1 << 28,)
    assert checkpoint.tensors[0].unreadable == ""
    assert [value.value for value in checkpoint.values] == ["x"]
    assert checkpoint.storages[checkpoint.tensors[0].storage or ""].nbytes == nbytes

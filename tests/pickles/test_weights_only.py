"""The same answer as torch.load(weights_only=True), without asking it."""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import pathlib
import pickle
import warnings
import zipfile
from typing import Any

import numpy as np
import pytest
import torch

from sdviewer.pickles.machine import parse_partial
from sdviewer.pickles.weights_only import would_load
from tests.pickles.samples import Plain, tensors, torch_file, torch_pickle


def torch_takes(file: bytes) -> bool:
    """What torch.load says of a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.load(io.BytesIO(file), weights_only=True)
        except Exception:  # torch raises nearly any kind
            return False
    return True


def file_of(data: bytes) -> bytes:
    """A torch zip with this pickle and no storage."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def four(count: int = 4) -> torch.Tensor:
    return torch.zeros(count)


OBJECTS: dict[str, Any] = {
    "none": None,
    "numbers": [1, -1, 300, 70_000, 2**40, 1.5, True],
    "text": ["a", "é", "\ud800"],
    "containers": [(), (1,), (1, 2, 3, 4), {}, {"a": 1}, [1, 2], set(), {1, 2}],
    "frozenset": frozenset({1}),
    "bytes": b"abc",
    "empty bytes": b"",
    "bytearray": bytearray(b"abc"),
    "complex": 1j,
    "range": range(3),
    "ordered": collections.OrderedDict(a=1, b=2),
    "counter": collections.Counter("aab"),
    "defaultdict": collections.defaultdict(list),
    "deque": collections.deque([1]),
    "namespace": argparse.Namespace(a=1),
    "path": pathlib.PurePosixPath("a"),
    "date": datetime.date(2020, 1, 1),
    "array": np.zeros(2),
    "scalar": np.float32(1),
    "huge": 1 << 3000,
    "class": Plain,
    "function": len,
    "tensor": four(),
    "tensors": {f"t{i}": four() for i in range(40)},
    "tied": [t := four(), t],
    "views": [(flat := four())[:2], flat[2:]],
    "parameter": torch.nn.Parameter(four()),
    "dtype": torch.float16,
    "size": torch.Size((1, 2)),
    "device": torch.device("cpu"),
    "sparse": torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.int64), four(1), (2,), check_invariants=True),
    "state dict": torch.nn.Linear(2, 2, bias=False).state_dict(),
    "module": torch.nn.Linear(2, 2),
    "generator": torch.Generator(),
    "knot": (knot := ([],), knot[0].append(knot))[0],  # type: ignore[func-returns-value]
}


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_that_objects_are_judged_as_torch_does(name: str, protocol: int) -> None:
    answer = would_load(parse_partial(torch_pickle(OBJECTS[name], protocol)))
    assert answer is torch_takes(torch_file(OBJECTS[name], protocol))


def test_that_text_protocols_are_refused() -> None:
    for protocol in (0, 1, 3):
        data = pickle.dumps({"a": [1, "x"]}, protocol)
        assert would_load(parse_partial(data)) is torch_takes(file_of(data))


HAND_MADE = {
    "name of sys": b"csys\nexit\n.",
    "name of torch.nn": b"ctorch.nn\nLinear\n.",
    "python 2 name": b"c__builtin__\nset\n)R.",
    "qualified otherwise": b"ctorch.nn\nparameter.Parameter\n.",
    "a dtype called": b"ctorch\nfloat32\n)R.",
    "a storage class called": b"ctorch\nFloatStorage\nK\x01\x85R.",
    "a tuple called": b")]R.",
    "append to a dict": b"}K\x01a.",
    "append to an ordered dict": b"ccollections\nOrderedDict\n)RK\x01a.",
    "set item of a list": b"](K\x00K\x01u.",
    "set item of a counter": b"ccollections\nCounter\n)RK\x00K\x01s.",
    "a list as a key": b"}]K\x01s.",
    "a list in a tuple as a key": b"}]\x85K\x01s.",
    "an ordered dict as a key": b"}ccollections\nOrderedDict\n)RK\x01s.",
    "a tuple as a key": b"}K\x02\x85K\x01s.",
    "build of a list": b"]}b.",
    "build of a dict": b"}}b.",
    "build of a class": b"ccollections\nOrderedDict\n}b.",
    "build of an ordered dict": b"ccollections\nOrderedDict\n)R}X\x01\x00\x00\x00aK\x01sb.",
    "new ordered dict": b"ccollections\nOrderedDict\n)\x81.",
    "new tuple": b"))\x81.",
    "persistent number": b"K\x05Q.",
    "persistent text": b"X\x01\x00\x00\x00aQ.",
    "persistent module": b"(X\x06\x00\x00\x00moduleK\x01K\x01K\x01tQ.",
    "persistent short": b"X\x07\x00\x00\x00storageK\x01\x86Q.",
    "bad text": b"X\x02\x00\x00\x00\xff\xfe.",
    "python 2 text": b"U\x03abc.",
    "bad python 2 text": b"U\x02\xff\xfe.",
    "cut": b"}X\x01\x00\x00\x00a",
    "empty": b"",
    "unknown opcode": b"\xfe.",
    "pop": b"NN0.",
    "dup": b"N2.",
    "memo as text": b"Np0\n.",
    "missing slot": b"h\x05.",
    "rebuild without a storage": b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00))\x89}tR.",
    "arguments that are none": b"ccollections\nOrderedDict\nNR.",
    "left on the stack": b"NN.",
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_that_hand_made_pickles_are_judged_as_torch_does(name: str) -> None:
    data = b"\x80\x02" + HAND_MADE[name]
    assert would_load(parse_partial(data)) is torch_takes(file_of(data))


def test_that_it_says_nothing_where_it_cannot_know() -> None:
    record = torch_pickle(tensors(3))[:-2]  # without SETITEMS and STOP: the last tensor on top
    for data in (b"\x80\xffN.", record + b"}bu.", b"\x80\x02c__builtin__\nset\n)R}b."):
        assert would_load(parse_partial(data)) is None

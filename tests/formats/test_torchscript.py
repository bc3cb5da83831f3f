"""TorchScript archives, written by torch 2.13, and by hand those of torch 1.0 to 1.3."""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdviewer.core.paths import dotted
from sdviewer.errors import RepairError
from sdviewer.formats import open_checkpoint
from sdviewer.formats.pickle_streams import pickle_streams
from sdviewer.formats.torchscript_code import classes_of
from sdviewer.pickles.scan import scan_stream
from sdviewer.repair.operations import Drop
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Recipe
from tests.formats.conftest import Member, build_zip, elements
from tests.formats.test_torch_zip import by_key, bytes_of

Write = Callable[..., Path]


def net() -> Any:
    import torch

    class Inner(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("counts", torch.arange(3), persistent=False)
            self.extra = torch.tensor([0.5, 1.5])
            self.sizes = [1, 2, 3]
            self.title = "inner"
            self.fc = torch.nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x + self.counts) + self.extra + self.sizes[0] + len(self.title) + torch.tensor([1.0, 2.0])

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()
            self.norm = torch.nn.BatchNorm1d(3)
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(self.norm(x)) * self.scale

    return Net().eval()


def saved(tmp_path: Path, how: str) -> tuple[Path, Any]:
    import torch

    path = tmp_path / f"{how}.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.jit.trace(net(), torch.ones(4, 3)) if how == "trace" else torch.jit.script(net())
        if how == "mobile":
            made._save_for_lite_interpreter(str(path))
        else:
            made.save(str(path))
    return path, made


@pytest.mark.parametrize("how", ["script", "trace", "mobile"])
def test_that_the_state_dict_is_that_of_the_loaded_module(tmp_path: Path, how: str) -> None:
    path, made = saved(tmp_path, how)
    truth = made.state_dict()
    checkpoint = open_checkpoint(path)
    assert checkpoint.container == "torchscript"
    assert not [problem for problem in checkpoint.problems if problem.severity != "info"]
    (state_dict,) = checkpoint.state_dicts
    assert list(state_dict.keys) == list(truth)
    parameters = {name for name, _ in made.named_parameters()}
    for key, (index, row) in by_key(checkpoint).items():
        assert row.path == (key,)
        assert (row.shape, row.stride) == (tuple(truth[key].shape), truth[key].stride())
        assert (row.dtype, row.requires_grad) == (str(truth[key].dtype)[6:], False)
        assert row.kind == ("parameter" if key in parameters else "buffer")
        assert elements(checkpoint, index) == bytes_of(truth[key].reshape(-1))
    assert ("mobile" in checkpoint.writer) is (how == "mobile")


def test_that_what_is_no_parameter_and_no_buffer_is_told_beside_them(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "script")
    checkpoint = open_checkpoint(path)
    others = {dotted(row.path): row.shape for row in checkpoint.tensors if row.state_dict is None}
    assert others == {"inner.extra": (2,)}
    values = {dotted(value.path): value.value for value in checkpoint.values}
    assert values["class"].endswith("Net")
    assert {name: values[name] for name in ("inner.title", "inner.sizes.0", "inner.sizes.2")} == {
        "inner.title": "inner",
        "inner.sizes.0": 1,
        "inner.sizes.2": 3,
    }
    assert checkpoint.source.directory.entries
    assert checkpoint.source.top == "script"


def test_that_constants_and_traced_inputs_are_told(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "trace")
    checkpoint = open_checkpoint(path)
    rows = {dotted(row.path): (i, row) for i, row in enumerate(checkpoint.tensors) if row.state_dict is None}
    constants = [index for name, (index, _) in rows.items() if name.startswith("CONSTANTS.")]
    assert struct.pack("<2f", 1.0, 2.0) in [elements(checkpoint, index) for index in constants]
    # torch writes the record of a traced input without its bytes.
    (traced,) = [row for name, (_, row) in rows.items() if name.startswith("traced_inputs.")]
    assert traced.shape == (4, 3)
    assert traced.unreadable
    assert {problem.severity for problem in checkpoint.problems} == {"info"}
    assert not [item.cls for item in checkpoint.objects if item.cls.startswith("torch.jit._pickle")]


def test_that_keys_are_not_edited(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "script")
    checkpoint = open_checkpoint(path)
    assert "code" in checkpoint.state_dicts[0].read_only
    with pytest.raises(RepairError, match="code of a TorchScript archive"):
        make_plan(Recipe(steps=(Drop(keys=("scale",)),)), checkpoint)


def test_that_every_pickle_is_scanned_and_torchs_own_calls_are_not_accused(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "trace")
    streams = pickle_streams(path)
    names = {stream.name.partition("/")[2] for stream in streams}
    assert {"data.pkl", "constants.pkl", "traced_inputs.pkl"} <= names
    assert any(name.endswith(".debug_pkl") for name in names)
    assert all(stream.refused for stream in streams)
    found = [use for stream in streams for use in scan_stream(stream.data, stream.name).globals]
    assert "torch.jit._pickle.restore_type_tag" in [use.name for use in found]
    assert not [use.name for use in found if use.cls == "dangerous"]


def test_that_lists_of_names_are_read_out_of_code() -> None:
    code = (
        'class A(Module):\n  __parameters__ = ["w", "b\\"q", ]\n  __buffers__ = ["m", ]\n  w : Tensor\n'
        '  def f(self) -> str:\n    return "__buffers__ = [\\"x\\", ]"\n'
        "class B(NamedTuple):\n  x : int\nclass C:\n  y : int\nclass D(Module):\n  __parameters__ = []"
    )
    found = classes_of(code)
    assert found["A"].parameters == {"w", 'b"q'}
    assert found["A"].buffers == {"m"}
    assert [name for name, text in found.items() if text.is_module] == ["A", "D"]
    assert found["D"].buffers is None


def archive(pickle_: bytes, code: str, storages: dict[str, bytes], **more: bytes) -> bytes:
    members = [
        Member("m/data.pkl", pickle_),
        *[Member(f"m/data/{key}", data) for key, data in storages.items()],
        Member("m/code/__torch__.py", code.encode(), method=8),
        Member("m/constants.pkl", more.pop("constants", b"\x80\2).")),
        Member("m/version", b"3\n"),
        *[Member(f"m/{name}", data) for name, data in more.items()],
    ]
    return build_zip(members).data


def module(cls: str, **attributes: bytes) -> bytes:
    body = b"".join([b"X" + len(k).to_bytes(4, "little") + k.encode() + v for k, v in attributes.items()])
    return f"c__torch__\n{cls}\n".encode() + b")\x81}(" + body + b"ub"


W = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuK\2tQK\0"
    b"(K\2t(K\1t\x88ccollections\nOrderedDict\n)RtR"
)
FLOATS = struct.pack("<2f", 1.0, 2.0)


def test_that_without_a_list_of_buffers_every_tensor_is_one(write: Write) -> None:
    data = b"\x80\2" + module("Net", w=W, m=W, training=b"\x88") + b"."
    code = 'class Net(Module):\n  __parameters__ = ["w", ]\n  w : Tensor\n'
    checkpoint = open_checkpoint(write(archive(data, code, {"0": FLOATS})))
    assert [(row.key, row.kind) for row in checkpoint.tensors] == [("w", "parameter"), ("m", "buffer")]
    without = open_checkpoint(write(archive(data, "", {"0": FLOATS})))
    assert [(row.key, row.kind) for row in without.tensors] == [("w", "tensor"), ("m", "tensor")]


def test_that_damage_beside_the_modules_leaves_them(write: Write) -> None:
    data = b"\x80\2" + module("Net", w=W) + b"."
    checkpoint = open_checkpoint(write(archive(data, "class Net(Module):\n", {"0": FLOATS}, constants=b"\x80\2\xfe")))
    assert "inner_file" in [problem.code for problem in checkpoint.problems]
    assert elements(checkpoint, 0) == FLOATS


def test_that_modules_in_many_places_cost_no_more_than_a_budget(write: Write) -> None:
    inner = module("Net", w=W) + b"q\0"
    depth = 60
    data = b"\x80\2" + b"".join([b"c__torch__\nNet\n" + b")\x81}(X\1\0\0\0a" for _ in range(depth)])
    data += inner
    for slot in range(depth):
        data += b"X\1\0\0\0bh" + bytes([slot]) + b"ubq" + bytes([slot + 1])
    checkpoint = open_checkpoint(write(archive(data + b".", "class Net(Module):\n", {"0": FLOATS})))
    assert "repeated" in [problem.code for problem in checkpoint.problems]
    assert 0 < len(checkpoint.tensors) < 20_000


def test_that_a_module_that_contains_itself_is_opened(write: Write) -> None:
    data = b"\x80\2c__torch__\nNet\n)\x81q\0}(X\1\0\0\0w" + W + b"X\1\0\0\0ah\0ub."
    checkpoint = open_checkpoint(write(archive(data, "class Net(Module):\n", {"0": FLOATS})))
    assert {"repeated", "too_deep"} & {problem.code for problem in checkpoint.problems}


def test_that_an_archive_of_torch_1_0_is_read(write: Write) -> None:
    model = {
        "protoVersion": "2",
        "mainModule": {
            "torchscriptArena": {"key": "code/m.py"},
            "name": "Net",
            "parameters": [{"isBuffer": True, "tensorId": "1", "name": "mean"}, {"tensorId": "0", "name": "weight"}],
            "attributes": [{"type": "int", "name": "n", "id": "0"}, {"type": "Tensor", "name": "t", "id": "1"}],
            "submodules": [{"name": "fc", "parameters": [{"isBuffer": False, "tensorId": 2, "name": "bias"}]}],
        },
        "producerName": "pytorch",
        "tensors": [
            {"dims": ["2", "2"], "offset": "1", "strides": ["2", "1"], "requiresGrad": True, "dataType": "FLOAT",
             "data": {"key": "tensors/0"}, "device": "cpu"},
            {"dims": [], "strides": [], "offset": "0", "dataType": "INT64", "data": {"key": "tensors/1"}},
            {"dims": ["1"], "strides": ["1"], "dataType": "FLOAT", "data": {"key": "tensors/0"}},
        ],
    }  # fmt: skip
    attributes = b"\x80\2](K\5ctorch.jit._pickle\nbuild_tensor_from_id\nK\1\x85Re."
    members = [
        Member("m/version", b"1\n"),
        Member("m/code/m.py", b"op_version_set = 1\n"),
        Member("m/attributes.pkl", attributes),
        Member("m/tensors/0", struct.pack("<5f", *range(5))),
        Member("m/tensors/1", struct.pack("<q", -3)),
        Member("m/model.json", json.dumps(model).encode()),
    ]
    checkpoint = open_checkpoint(write(build_zip(members).data))
    assert (checkpoint.container, checkpoint.problems) == ("torchscript", ())
    assert checkpoint.state_dicts[0].keys == ("weight", "mean", "fc.bias")
    assert [elements(checkpoint, i) for i in range(4)] == [
        struct.pack("<4f", 1, 2, 3, 4),
        struct.pack("<q", -3),
        struct.pack("<f", 0),
        struct.pack("<q", -3),
    ]
    assert [row.kind for row in checkpoint.tensors] == ["parameter", "buffer", "parameter", "tensor"]
    assert {dotted(value.path): value.value for value in checkpoint.values} == {"class": "Net", "n": 5}


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"mainModule": 5}', "nonsense", '{"mainModule": {"parameters": [{"tensorId": "99"}]}}']
)
def test_that_an_odd_model_json_is_no_crash(write: Write, text: str) -> None:
    from sdviewer.errors import SDViewerError

    try:
        checkpoint = open_checkpoint(write(build_zip([Member("m/model.json", text.encode())]).data))
    except SDViewerError as error:
        assert error.code == "corrupt"
    else:
        assert not checkpoint.tensors


def test_that_a_hostile_pickle_beside_is_told_by_the_scan_and_not_run(write: Write, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    evil = b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR."
    data = b"\x80\2" + module("Net", w=W) + b"."
    path = write(archive(data, "class Net(Module):\n", {"0": FLOATS}, **{"extra/x.pkl": evil, "attributes.pkl": evil}))
    open_checkpoint(path)
    streams = [stream for stream in pickle_streams(path) if stream.data == evil]
    assert [stream.name for stream in streams] == ["m/extra/x.pkl", "m/attributes.pkl"]
    assert not marker.exists()

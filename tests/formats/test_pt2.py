"""torch.export programs: of torch 2.13, and by hand those of 2.1 to 2.6."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdviewer.core.paths import dotted
from sdviewer.errors import SDViewerError
from sdviewer.formats import open_checkpoint
from sdviewer.formats.pickle_streams import pickle_streams
from tests.formats.conftest import Member, build_zip, elements
from tests.formats.test_torch_zip import by_key, bytes_of

Write = Callable[..., Path]


def archive_of(thing: Any, **options: Any) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save(thing, file, **options)
    return file.getvalue()


def meta(sizes: list[int], strides: list[int], dtype: int = 7, offset: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "dtype": dtype,
        "sizes": [{"as_int": n} for n in sizes],
        "strides": [{"as_int": n} for n in strides],
        "storage_offset": {"as_int": offset},
        "requires_grad": False,
        "device": {"type": "cuda", "index": 1},
        "layout": 7,
        **more,
    }


def program(config: dict[str, Any], **members: bytes) -> bytes:
    found = [
        Member("m/archive_format", b"pt2"),
        Member("m/models/model.json", b"{}"),
        Member("m/data/weights/model_weights_config.json", json.dumps({"config": config}).encode()),
        *[Member(f"m/{name}", data) for name, data in members.items()],
    ]
    return build_zip(found).data


def listed(path: str, tensor_meta: Any, **more: Any) -> dict[str, Any]:
    return {"path_name": path, "is_param": True, "use_pickle": False, "tensor_meta": tensor_meta, **more}


def test_that_an_exported_program_is_read(tmp_path: Path) -> None:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(3, 2)
            self.norm = torch.nn.BatchNorm1d(2)
            self.table = torch.tensor([3.0, 4.0])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.fc(x)) + self.table

    net = Net().eval()
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(net, (torch.full((4, 3), 2.0),)), path)
    checkpoint = open_checkpoint(path)
    assert (checkpoint.container, checkpoint.problems) == ("pt2", ())
    truth = net.state_dict()
    rows = {row.key: (i, row) for i, row in enumerate(checkpoint.tensors) if row.state_dict == 0}
    assert checkpoint.state_dicts[0].path == ()
    assert set(rows) == set(truth)
    parameters = dict(net.named_parameters())
    for key, (index, row) in rows.items():
        assert (row.shape, row.dtype) == (tuple(truth[key].shape), str(truth[key].dtype)[6:])
        assert row.requires_grad is (key in parameters)
        assert row.kind == ("parameter" if key in parameters else "buffer")
        assert elements(checkpoint, index) == bytes_of(truth[key].reshape(-1))
    others = {dotted(row.path): i for i, row in enumerate(checkpoint.tensors) if row.state_dict != 0}
    assert elements(checkpoint, others["constants.table"]) == struct.pack("<2f", 3, 4)
    (sample,) = [i for name, i in others.items() if name.startswith("sample_inputs.")]
    assert elements(checkpoint, sample) == struct.pack("<12f", *[2.0] * 12)
    assert all("graph" in found.read_only for found in checkpoint.state_dicts)
    assert checkpoint.writer["archive_format"] == "pt2"
    assert any("sample_inputs" in stream.name for stream in pickle_streams(path))


@pytest.mark.parametrize("method", [0, 8])
def test_that_a_program_of_2_1_to_2_6_is_read(tmp_path: Path, method: int) -> None:
    import torch

    tensors = {"w": torch.arange(6.0).reshape(2, 3), "v": torch.ones(2, dtype=torch.int16)}
    path = tmp_path / "old.pt2"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("serialized_state_dict.pt", archive_of(tensors))
        archive.writestr("serialized_constants.pt", archive_of({"c": torch.tensor([5])}))
        archive.writestr("serialized_example_inputs.pt", b"")
        archive.writestr("version", "5.1")
    checkpoint = open_checkpoint(path)
    assert (checkpoint.container, checkpoint.problems) == ("pt2", ())
    rows = by_key(checkpoint)
    for key in ("w", "v"):
        assert elements(checkpoint, rows[key][0]) == bytes_of(tensors[key])
    assert [dotted(found.path) for found in checkpoint.state_dicts] == ["", "constants"]
    assert elements(checkpoint, rows["c"][0]) == struct.pack("<q", 5)
    assert len(pickle_streams(path)) == 2


def test_that_tensors_that_share_bytes_and_odd_types_are_read(write: Write) -> None:
    config = {
        "a": listed("weight_0", meta([2], [1], offset=1)),
        "b": listed("weight_0", meta([2, 2], [2, 1])),
        "f8": listed("weight_1", meta([4], [1], dtype=29)),
        "half": listed("weight_1", meta([2], [1], dtype=13)),
    }
    path = write(
        program(
            config, **{"data/weights/weight_0": struct.pack("<4f", *range(4)), "data/weights/weight_1": b"\1\2\3\4"}
        )
    )
    checkpoint = open_checkpoint(path)
    rows = by_key(checkpoint)
    assert [(key, row.dtype, row.location) for key, (_, row) in rows.items()] == [
        ("a", "float32", "cuda:1"),
        ("b", "float32", "cuda:1"),
        ("f8", "float8_e4m3fn", "cuda:1"),
        ("half", "bfloat16", "cuda:1"),
    ]
    assert rows["a"][1].storage == rows["b"][1].storage
    assert elements(checkpoint, rows["a"][0]) == struct.pack("<2f", 1, 2)
    assert elements(checkpoint, rows["f8"][0]) == b"\1\2\3\4"


def test_that_a_pickled_weight_is_a_torch_archive_inside(write: Write) -> None:
    import torch

    inner = archive_of(torch.tensor([1.5, 2.5]))
    legacy = archive_of(torch.tensor([9]), _use_new_zipfile_serialization=False)
    config = {
        "w": listed("weight_0", None, use_pickle=True),
        "v": listed("weight_1", None, use_pickle=True),
    }
    path = write(program(config, **{"data/weights/weight_0": inner, "data/weights/weight_1": legacy}))
    checkpoint = open_checkpoint(path)
    rows = by_key(checkpoint)
    assert elements(checkpoint, rows["w"][0]) == struct.pack("<2f", 1.5, 2.5)
    assert elements(checkpoint, rows["v"][0]) == struct.pack("<q", 9)
    assert {stream.name for stream in pickle_streams(path)} == {
        "m/data/weights/weight_0/archive/data.pkl",
        "m/data/weights/weight_1",
    }


def test_that_two_programs_in_one_file_are_apart(write: Write) -> None:
    config = json.dumps({"config": {"w": listed("weight_0", meta([1], [1]))}}).encode()
    path = write(
        program(
            {"w": listed("weight_0", meta([2], [1]))},
            **{
                "models/two.json": b"{}",
                "data/weights/two_weights_config.json": config,
                "data/weights/weight_0": bytes(8),
            },
        )
    )
    checkpoint = open_checkpoint(path)
    assert [row.path for row in checkpoint.tensors] == [("model", "w"), ("two", "w")]
    assert {row.kind for row in checkpoint.tensors} == {"parameter"}


@pytest.mark.parametrize(
    "config",
    [
        {"w": listed("weight_0", meta([1 << 62, 8], [1, 1])), "x": listed("weight_0", meta([2], [1]))},
        {"w": listed("weight_0", meta([-1], [1])), "x": listed("weight_0", meta([2], [1]))},
        {"w": listed("weight_9", meta([2], [1])), "x": listed("weight_0", meta([2], [1]))},
        {"w": listed("weight_0", meta([2], [1], dtype=99)), "x": listed("weight_0", meta([2], [1]))},
        {"w": listed("weight_0", {"sizes": [{"as_expr": "s0"}]}), "x": listed("weight_0", meta([2], [1]))},
        {"w": listed("../archive_format", meta([9], [1])), "x": listed("weight_0", meta([2], [1]))},
        {"w": listed("weight_0", None, use_pickle=True), "x": listed("weight_0", meta([2], [1]))},
        {"w": 5, "x": listed("weight_0", meta([2], [1]))},
    ],
)
def test_that_one_bad_entry_leaves_the_others(write: Write, config: dict[str, Any]) -> None:
    data = struct.pack("<2f", 1, 2)
    checkpoint = open_checkpoint(write(program(config, **{"data/weights/weight_0": data})))
    assert any(problem.severity == "error" for problem in checkpoint.problems)
    rows = by_key(checkpoint)
    assert elements(checkpoint, rows["x"][0]) == data
    assert "w" not in rows or rows["w"][1].unreadable


@pytest.mark.parametrize("config", [b"", b"[]", b'{"config": 5}', b"\xff", b"[" * 100_000])
def test_that_a_list_that_is_none_is_told(write: Write, config: bytes) -> None:
    members = [
        Member("m/archive_format", b"pt2"),
        Member("m/data/weights/model_weights_config.json", config),
    ]
    try:
        checkpoint = open_checkpoint(write(build_zip(members).data))
    except SDViewerError as error:
        assert error.code == "too_deep"
    else:
        assert [problem.code for problem in checkpoint.problems] == ["inner_file"]

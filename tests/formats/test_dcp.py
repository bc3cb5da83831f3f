from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.errors import CorruptCheckpoint, OpenError
from sdviewer.formats import TensorSource, open_checkpoint, open_storage, tensor_source
from tests.formats.conftest import elements
from tests.formats.dcp_folders import Parts, loaded, write_dcp


def numbers(tensor: torch.Tensor) -> bytes:
    """The row-major elements."""
    flat = tensor.contiguous().view(-1)
    return bytes(flat.view(torch.uint8).tolist()) if flat.numel() else b""


def assert_same(checkpoint: Checkpoint, tensors: dict[str, torch.Tensor]) -> None:
    assert checkpoint.problems == ()
    found = {".".join(map(str, tensor.path)): index for index, tensor in enumerate(checkpoint.tensors)}
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        info = checkpoint.tensors[found[name]]
        assert info.shape == tuple(tensor.shape)
        assert info.dtype == str(tensor.dtype).removeprefix("torch.")
        assert elements(checkpoint, found[name]) == numbers(tensor), name


def grid(shape: tuple[int, ...], cuts: tuple[int, ...]) -> Parts:
    """`shape` cut into so many pieces along each dimension, the last of each smaller where it does not go in."""
    parts: list[tuple[list[int], list[int]]] = [([], [])]
    for size, n in zip(shape, cuts, strict=True):
        each = -(-size // n)
        bounds = [(at, min(each, size - at)) for at in range(0, size, each)]
        parts = [([*at, first], [*sizes, length]) for at, sizes in parts for first, length in bounds]
    return parts


TENSORS = {
    "whole": torch.arange(24.0).reshape(4, 6),
    "rows": torch.arange(70, dtype=torch.int64).reshape(7, 10),
    "columns": torch.arange(70, dtype=torch.bfloat16).reshape(7, 10),
    "mesh": torch.arange(7 * 5 * 9, dtype=torch.int16).reshape(7, 5, 9),
    "scalar": torch.tensor(2.5, dtype=torch.float64),
    "empty": torch.empty(0, 3),
    "last": torch.arange(48, dtype=torch.uint8).reshape(2, 3, 2, 4).to(memory_format=torch.channels_last),
}
PARTS = {
    "rows": grid((7, 10), (3, 1)),
    "columns": grid((7, 10), (1, 4)),
    "mesh": grid((7, 5, 9), (2, 2, 3)),
    # In no order, and cut so that no dimension is cut through.
    "whole": [((2, 1), (2, 5)), ((0, 0), (1, 5)), ((1, 0), (3, 1)), ((0, 5), (2, 1)), ((1, 1), (1, 4))],
}


def test_that_tensors_cut_in_any_way_are_put_together_as_torch_does(tmp_path: Path) -> None:
    folder = write_dcp(tmp_path / "run", TENSORS, PARTS, files=3)
    for name, tensor in loaded(folder, TENSORS).items():
        assert torch.equal(tensor, TENSORS[name])
    assert_same(open_checkpoint(folder), TENSORS)
    assert_same(open_checkpoint(folder / ".metadata"), TENSORS)


def test_that_a_folder_that_torch_wrote_is_read(tmp_path: Path) -> None:
    import torch.distributed.checkpoint as dcp

    model = {"fc.weight": torch.arange(12.0).reshape(3, 4), "fc.bias": torch.ones(3)}
    state = {"model": model, "epoch": 3, "list": [torch.zeros(2), 5], "name": "x"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(state, checkpoint_id=str(tmp_path / "run"), no_dist=True)
    checkpoint = open_checkpoint(tmp_path / "run")
    assert checkpoint.problems == ()
    assert checkpoint.writer["version"] == "1.0.0"
    (state_dict,) = checkpoint.state_dicts
    assert (state_dict.path, state_dict.role, state_dict.keys) == (("model",), "model", ("fc.weight", "fc.bias"))
    assert {value.path[0]: value.value for value in checkpoint.values} == {"epoch": 3, "name": "x", "list": 5}
    assert elements(checkpoint, state_dict.tensor_of[0]) == numbers(model["fc.weight"])
    assert checkpoint.tensors[0].requires_grad is False


@pytest.mark.parametrize("distributed", [True, False])
def test_that_safetensors_that_torch_wrote_are_read(tmp_path: Path, distributed: bool) -> None:
    """By the writer for Hugging Face without merging, and by the ordinary writer: behind an object, lengths wrong."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.filesystem import FileSystemWriter, SerializationFormat
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    folder = str(tmp_path / "run")
    tensors: dict[str, Any] = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3, dtype=torch.int32)}
    writer: Any = HuggingFaceStorageWriter(folder, save_distributed=True)
    if not distributed:
        writer = FileSystemWriter(folder, serialization_format=SerializationFormat.SAFETENSORS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(tensors if distributed else {**tensors, "c": 3}, storage_writer=writer, no_dist=True)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.container == "dcp"
    assert_same(checkpoint, tensors)
    assert [value.value for value in checkpoint.values] == ([] if distributed else [3])


def test_that_parts_in_safetensors_files_are_put_together(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    whole = torch.arange(40.0).reshape(5, 8)
    for n, (first, width) in enumerate([(0, 3), (3, 5)], 1):
        part = whole[:, first : first + width].contiguous()
        info = f'{{"a": {{"saved_offsets": [0, {first}]}}}}'
        path = tmp_path / f"shard-0000{n}-model-00001-of-00001.safetensors"
        save_file({"a": part}, path, metadata={"DCP_SHARDING_INFO": info})
    assert_same(open_checkpoint(tmp_path), {"a": whole})


def test_that_optimizer_objects_and_paths_come_as_they_were_saved(tmp_path: Path) -> None:
    things = {
        "model.a": torch.ones(2),
        "model._extra_state": {"scale": torch.full((3,), 7.0), "note": "kept"},
        "optim.state.0.exp_avg": torch.zeros(2),
        "optim.param_groups.0.lr": 0.5,
    }
    paths = {
        "model.a": ("model", "a"),
        "model._extra_state": ("model", "_extra_state"),
        "optim.state.0.exp_avg": ("optim", "state", "0", "exp_avg"),
        "optim.param_groups.0.lr": ("optim", "param_groups", 0, "lr"),
    }
    checkpoint = open_checkpoint(write_dcp(tmp_path / "run", things, paths=paths))
    dicts = {".".join(map(str, found.path)): found for found in checkpoint.state_dicts}
    assert (dicts["model"].role, dicts["model"].keys) == ("model", ("a", "_extra_state"))
    assert (dicts["optim"].role, dicts["optim"].keys) == ("optimizer", ("state.0.exp_avg",))
    assert all(found.read_only for found in checkpoint.state_dicts)
    scale = next(index for index, tensor in enumerate(checkpoint.tensors) if tensor.path[-1] == "scale")
    assert checkpoint.tensors[scale].path == ("model", "_extra_state", "scale")
    assert elements(checkpoint, scale) == numbers(torch.full((3,), 7.0))
    values = {".".join(str(getattr(step, "value", step)) for step in value.path): value for value in checkpoint.values}
    assert values["optim.param_groups.0.lr"].value == 0.5
    assert values["model._extra_state.note"].value == "kept"


def repacked(archive: bytes, *, deflated: bool = False, big: bool = False) -> bytes:
    """An archive zipped again, its records compressed or in the other byte order."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if big and name.endswith("byteorder"):
                data = b"big"
            if big and "/data/" in name:
                data = np.frombuffer(data, "<f4").byteswap().tobytes()
            new.writestr(name, data, zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED)
    return out.getvalue()


@pytest.mark.parametrize("how", [{"deflated": True}, {"big": True}, {"big": True, "deflated": True}])
def test_that_deflated_and_big_endian_parts_are_read(tmp_path: Path, how: dict[str, bool]) -> None:
    whole = torch.view_as_complex(torch.arange(60.0).reshape(5, 6, 2))
    parts = {"a": grid((5, 6), (2, 2))}
    folder = write_dcp(tmp_path / "run", {"a": whole}, parts, pack=partial(repacked, **how))
    assert_same(open_checkpoint(folder), {"a": whole})


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_that_any_range_of_any_grid_is_what_the_whole_has(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 15), min_size=1, max_size=4)))
    cuts = tuple([data.draw(st.integers(1, min(size, 4))) for size in shape])
    whole = torch.arange(torch.Size(shape).numel(), dtype=torch.int32).reshape(shape)
    folder = write_dcp(tmp_path_factory.mktemp("run"), {"a": whole}, {"a": grid(shape, cuts)}, files=2)
    source = tensor_source(open_checkpoint(folder), 0)
    assert TensorSource.from_json(source.to_json()) == source
    expected = numbers(whole)
    with open_storage(source) as storage:
        assert storage.nbytes == len(expected)
        for _ in range(8):
            start = data.draw(st.integers(0, len(expected)))
            piece = bytearray(data.draw(st.integers(0, len(expected) - start)))
            storage.read_into(start, memoryview(piece))
            assert bytes(piece) == expected[start : start + len(piece)]


def test_that_a_range_outside_is_refused(tmp_path: Path) -> None:
    source = tensor_source(open_checkpoint(write_dcp(tmp_path / "run", {"a": torch.ones(4)})), 0)
    with open_storage(source) as storage, pytest.raises(CorruptCheckpoint, match="were asked for"):
        storage.read_into(12, memoryview(bytearray(8)))


def test_that_a_changed_data_file_gives_no_numbers(tmp_path: Path) -> None:
    folder = write_dcp(tmp_path / "run", {"a": torch.arange(60.0).reshape(6, 10)}, {"a": grid((6, 10), (1, 2))})
    source = tensor_source(open_checkpoint(folder), 0)
    path = folder / "__1_0.distcp"
    path.write_bytes(path.read_bytes() + b"\0")
    with open_storage(source) as storage, pytest.raises(CorruptCheckpoint) as caught:
        storage.read_into(0, memoryview(bytearray(240)))
    assert caught.value.code == "file_changed"


def change_chunks(*parts: tuple[Any, Any]) -> Any:
    def change(metadata: Any) -> None:
        for chunk, (offsets, sizes) in zip(metadata.state_dict_metadata["a"].chunks, parts, strict=True):
            chunk.offsets, chunk.sizes = torch.Size(offsets), torch.Size(sizes)

    return change


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([((0, 0), (3, 4)), ((3, 0), (2, 4))], "20 of its 24 elements"),
        ([((0, 0), (3, 4)), ((2, 0), (3, 4))], "overlap"),
        ([((0, 0), (4, 4)), ((3, 0), (3, 4))], "overlap"),
        ([((0, 0), (3, 4)), ((3, 0), (3, 5))], "outside"),
        ([((0, 0), (3, 4)), ((3, -1), (3, 4))], "outside"),
        ([((0, 0), (3, 4)), ((3, 0), (2**40, 2**40))], "outside"),
        ([((0, 0), (3, 4)), ((3, 0, 0), (3, 4, 1))], "where its parts lie"),
    ],
)
def test_that_parts_that_are_not_the_whole_are_said(tmp_path: Path, parts: Any, says: str) -> None:
    def change(metadata: Any) -> None:
        old = dict(metadata.storage_data)
        metadata.storage_data.clear()
        for (index, place), (offsets, _) in zip(old.items(), parts, strict=True):
            metadata.storage_data[type(index)("a", offsets, index.index)] = place
        change_chunks(*parts)(metadata)

    tensor = torch.arange(24.0).reshape(6, 4)
    folder = write_dcp(tmp_path / "run", {"a": tensor}, {"a": grid((6, 4), (2, 1))}, change=change)
    checkpoint = open_checkpoint(folder)
    assert says in checkpoint.tensors[0].unreadable
    assert [(problem.code, problem.where) for problem in checkpoint.problems] == [("tensor_unreadable", "a")]
    with pytest.raises(CorruptCheckpoint, match=says):
        tensor_source(checkpoint, 0)


def test_that_a_part_that_is_another_tensor_gives_no_numbers(tmp_path: Path) -> None:
    def change(metadata: Any) -> None:
        places = metadata.storage_data
        first, second = list(places)
        places[first], places[second] = places[second], places[first]

    things = {"a": torch.ones(2, 3), "b": torch.ones(3, 2)}
    checkpoint = open_checkpoint(write_dcp(tmp_path / "run", things, change=change))
    with open_storage(tensor_source(checkpoint, 0)) as storage, pytest.raises(CorruptCheckpoint, match="3×2"):
        storage.read_into(0, memoryview(bytearray(24)))


def test_that_the_rest_is_shown_when_a_file_is_missing_cut_or_named_unsafely(tmp_path: Path) -> None:
    things = {"a": torch.ones(2), "b": torch.ones(2), "c": 5, "d": 6}
    folder = write_dcp(tmp_path / "run", things, files=4)
    (folder / "__0_0.distcp").unlink()
    (folder / "__2_0.distcp").write_bytes(b"short")
    checkpoint = open_checkpoint(folder)
    assert [problem.code for problem in checkpoint.problems] == [
        "missing_shard",
        "tensor_unreadable",
        "object_unreadable",
    ]
    assert "not there" in checkpoint.tensors[0].unreadable
    assert elements(checkpoint, 1) == numbers(torch.ones(2))
    assert [value.value for value in checkpoint.values][-1] == 6

    def outside(metadata: Any) -> None:
        for place in metadata.storage_data.values():
            place.relative_path = "../run/" + place.relative_path

    unsafe = open_checkpoint(write_dcp(tmp_path / "other", things, change=outside))
    assert {problem.code for problem in unsafe.problems} >= {"unsafe_shard"}
    assert all("leads out" in tensor.unreadable for tensor in unsafe.tensors)


def test_that_what_went_through_an_extension_is_not_taken_for_numbers(tmp_path: Path) -> None:
    def change(metadata: Any) -> None:
        for place in metadata.storage_data.values():
            place.transform_descriptors = ["stream.zstd"]

    checkpoint = open_checkpoint(write_dcp(tmp_path / "run", {"a": torch.ones(2)}, change=change))
    assert "stream.zstd" in checkpoint.tensors[0].unreadable


@pytest.mark.parametrize(
    "metadata",
    [OrderedDict(a=1), "torch.distributed.checkpoint.metadata Metadata", ["torch.distributed.checkpoint.metadata"]],
)
def test_that_another_pickle_called_metadata_is_no_distributed_checkpoint(tmp_path: Path, metadata: Any) -> None:
    (tmp_path / ".metadata").write_bytes(pickle.dumps(metadata))
    try:
        assert open_checkpoint(tmp_path).container == "pickle"
    except OpenError as error:
        assert error.path is not None

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats import open_checkpoint, open_storage, tensor_source
from tests.formats.conftest import elements

Shards = Mapping[str, Mapping[str, torch.Tensor]]

SHARDS: Shards = {
    "model-00001-of-00002.safetensors": {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(3)},
    "model-00002-of-00002.safetensors": {"b.weight": torch.full((4,), 7, dtype=torch.int64)},
}


def write_index(folder: Path, shards: Shards, index: Mapping[str, str] | None = None, **fields: Any) -> Path:
    """Shards and an index of them; `index` is another weight map than the true one."""
    folder.mkdir(parents=True, exist_ok=True)
    true = {}
    for name, tensors in shards.items():
        if name.endswith(".safetensors"):
            save_file(dict(tensors), folder / name, metadata={"format": "pt"})
        else:
            torch.save(dict(tensors), folder / name)
        true |= dict.fromkeys(tensors, name)
    kind = "model.safetensors" if "safetensors" in next(iter(shards), "safetensors") else "pytorch_model.bin"
    weight_map = true if index is None else index
    path = folder / f"{kind}.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 68}, "weight_map": weight_map, **fields}))
    return path


def codes(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    return [(problem.code, problem.where) for problem in checkpoint.problems]


def keyed(checkpoint: Checkpoint) -> dict[str, int]:
    return {str(tensor.key): index for index, tensor in enumerate(checkpoint.tensors)}


def test_that_an_index_and_its_shards_are_one_checkpoint(tmp_path: Path) -> None:
    path = write_index(tmp_path / "run", SHARDS)
    for opened in (open_checkpoint(path), open_checkpoint(path.parent)):
        assert opened.container == "hf-index"
        assert opened.problems == ()
        assert opened.path == str(path)
        assert opened.size == sum(file.stat().st_size for file in path.parent.iterdir())
        assert opened.metadata == {"index": {"total_size": 68}, "safetensors": {"format": "pt"}}
        (state_dict,) = opened.state_dicts
        assert (state_dict.role, state_dict.parameters, state_dict.nbytes) == ("model", 13, 68)
        assert "several files" in state_dict.read_only
        found = keyed(opened)
        for name, tensors in SHARDS.items():
            for key, tensor in tensors.items():
                info = opened.tensors[found[key]]
                assert (info.path, info.shard) == ((key,), name)
                assert info.storage == f"{name}/{key}"
                assert opened.storages[info.storage].nbytes == info.nbytes
                assert elements(opened, found[key]) == tensor.numpy().tobytes()


def test_that_torch_shards_keep_their_order_sharing_and_metadata(tmp_path: Path) -> None:
    weight = torch.arange(6.0)
    first: Any = torch.nn.Linear(2, 2).state_dict()
    first["z.tied"], first["a.tied"] = weight, weight[2:]
    shards = {"pytorch_model-1.bin": first, "pytorch_model-2.bin": {"last": torch.ones(1)}}
    path = write_index(tmp_path / "run", shards)
    torch.save(first, path.parent / "pytorch_model-1.bin")
    checkpoint = open_checkpoint(path.parent)
    assert [tensor.key for tensor in checkpoint.tensors] == ["weight", "bias", "z.tied", "a.tied", "last"]
    storage = checkpoint.storages[str(checkpoint.tensors[3].storage)]
    assert (storage.id, storage.tensors, storage.nbytes) == (checkpoint.tensors[2].storage, 2, 24)
    assert elements(checkpoint, 3) == weight[2:].numpy().tobytes()
    (versions,) = checkpoint.metadata["state_dict"]
    assert (versions["shard"], versions["keys"][""]) == ("pytorch_model-1.bin", {"version": 1})


def test_that_keys_missing_on_either_side_are_said_and_shown(tmp_path: Path) -> None:
    first, second = SHARDS
    index = {"a.weight": first, "b.weight": first, "c": second}
    checkpoint = open_checkpoint(write_index(tmp_path / "run", SHARDS, index))
    assert sorted(codes(checkpoint)) == [
        ("duplicate_key", "b.weight"),  # promised in one file, found in the other
        ("missing_key", "b.weight"),
        ("missing_key", "c"),
        ("not_in_index", "a.bias"),
    ]
    found = keyed(checkpoint)
    assert second in checkpoint.tensors[found["c"]].unreadable
    assert elements(checkpoint, found["a.bias"]) == torch.ones(3).numpy().tobytes()
    assert checkpoint.state_dicts[0].parameters == 13


def test_that_a_missing_shard_leaves_the_others(tmp_path: Path) -> None:
    path = write_index(tmp_path / "run", SHARDS)
    first, second = SHARDS
    (path.parent / first).unlink()
    checkpoint = open_checkpoint(path)
    assert codes(checkpoint) == [("missing_shard", first)]
    assert "2 keys" in checkpoint.problems[0].message
    found = keyed(checkpoint)
    assert "not there" in checkpoint.tensors[found["a.weight"]].unreadable
    assert elements(checkpoint, found["b.weight"])
    (path.parent / second).write_bytes(b"<html>not a model</html>")
    assert "web page" in open_checkpoint(path).problems[1].message


@pytest.mark.parametrize(
    "name",
    [
        "/etc/hostname",
        "../outside.safetensors",
        "sub/../../outside.safetensors",
        "..\\outside.safetensors",
        "C:x",
        "",
        "a\0b",
    ],
)
def test_that_a_name_that_could_lead_outside_is_not_opened(tmp_path: Path, name: str) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "outside.safetensors")
    checkpoint = open_checkpoint(write_index(tmp_path / "run", {}, {"a": name}))
    assert [code for code, _ in codes(checkpoint)] == ["unsafe_shard"]
    assert checkpoint.tensors[0].unreadable
    assert len(checkpoint.shards) == 1


def test_that_a_link_is_followed_inside_the_folder_and_a_cached_repository_only(tmp_path: Path) -> None:
    (name,) = one = {"model.safetensors": {"a": torch.ones(2)}}
    outside = write_index(tmp_path / "outside", one)
    linked = write_index(tmp_path / "run", one)
    (linked.parent / name).unlink()
    (linked.parent / name).symlink_to(outside.parent / name)
    assert [code for code, _ in codes(open_checkpoint(linked))] == ["unsafe_shard"]

    cached = write_index(tmp_path / "models--org--name" / "snapshots" / "abc", one)
    blobs = tmp_path / "models--org--name" / "blobs"
    blobs.mkdir()
    for file in (cached, cached.parent / name):
        file.rename(blobs / file.name)
        file.symlink_to(Path("../../blobs") / file.name)
    checkpoint = open_checkpoint(cached.parent)
    assert checkpoint.problems == ()
    assert elements(checkpoint, 0) == torch.ones(2).numpy().tobytes()
    (cached.parent / name).unlink()
    (cached.parent / name).symlink_to(outside.parent / name)
    assert [code for code, _ in codes(open_checkpoint(cached))] == ["unsafe_shard"]


def test_that_files_that_are_no_shards_of_their_own_are_said(tmp_path: Path) -> None:
    """The index itself, another index, and one file under two names."""
    first = next(iter(SHARDS))
    path = write_index(tmp_path / "run", SHARDS, {"a.weight": first, "a.bias": "twice.safetensors", "x": "other.json"})
    os.link(path.parent / first, path.parent / "twice.safetensors")
    (path.parent / "other.json").write_text(path.read_text())
    checkpoint = open_checkpoint(path)
    assert [code for code, _ in codes(checkpoint)].count("shard_unreadable") == 2
    assert sum(tensor.key == "a.weight" for tensor in checkpoint.tensors) == 1
    itself = write_index(tmp_path / "self", {}, {"a": "model.safetensors.index.json"})
    assert codes(open_checkpoint(itself)) == [("shard_unreadable", "model.safetensors.index.json")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"weight_map": []}', "no weight_map"),
        ('{"metadata": {"total_size": 4}}', "no weight_map"),
        ('{"weight_map": {"a": 5}}', "names no file for a"),
        ('{"weight_map": {"a"', "not JSON"),
        ('{"weight_map": ' + "[" * 200_000, "nested"),
    ],
)
def test_that_an_index_that_is_none_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(text)
    with pytest.raises(CorruptCheckpoint, match=says):
        open_checkpoint(path)


def test_that_a_big_endian_shard_is_read_in_its_own_order(tmp_path: Path) -> None:
    import struct

    from tests.formats.conftest import build_zip, torch_members

    path = write_index(tmp_path / "run", {"one.bin": {"a": torch.ones(2)}, "two.bin": {"b": torch.ones(2)}})
    import zipfile

    with zipfile.ZipFile(path.parent / "two.bin") as archive:
        pickled = archive.read("two/data.pkl")
    members = torch_members(pickled, {"0": struct.pack(">2f", 3, 4)}, byteorder="big")
    (path.parent / "two.bin").write_bytes(build_zip(members).data)
    checkpoint = open_checkpoint(path)
    assert checkpoint.problems == ()
    assert elements(checkpoint, 0) == struct.pack("<2f", 1, 1)
    assert elements(checkpoint, 1) == struct.pack("<2f", 3, 4)


def test_that_a_shard_that_changed_gives_no_numbers(tmp_path: Path) -> None:
    path = write_index(tmp_path / "run", SHARDS)
    source = tensor_source(open_checkpoint(path), 0)
    shard = path.parent / next(iter(SHARDS))
    shard.write_bytes(shard.read_bytes() + b"\0")
    with pytest.raises(CorruptCheckpoint, match="changed") as caught:
        open_storage(source)
    assert str(shard) in str(caught.value)

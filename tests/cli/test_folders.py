"""Commands over checkpoints of several files."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.conftest import Command
from tests.formats.dcp_folders import write_dcp
from tests.formats.test_hf_index import SHARDS, write_index

WEIGHT = torch.arange(60.0).reshape(6, 10)
PARTS = {"a.weight": [((0, 0), (6, 4)), ((0, 4), (6, 6))]}


class RunsCommand:
    """An object whose pickle asks for a command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.folder}/was_run",)


def test_that_info_tells_an_index_as_one_checkpoint(sdviewer: Command, tmp_path: Path) -> None:
    path = write_index(tmp_path / "run", SHARDS)
    told = sdviewer("info", path.parent, "--json").json
    assert (told["container"], told["path"]) == ("hf-index", str(path))
    assert told["size"] == sum(file.stat().st_size for file in path.parent.iterdir())
    assert told["metadata"]["index"] == {"total_size": 68}
    shard, key = "model-00002-of-00002.safetensors", "b.weight"
    (row,) = [tensor for tensor in told["tensors"] if tensor["key"] == key]
    assert (row["path"], row["shard"], row["storage"]) == ([key], shard, f"{shard}/{key}")
    assert f"{shard}/{key}" in [storage["id"] for storage in told["storages"]]


def test_that_stats_measure_a_tensor_in_two_files(sdviewer: Command, tmp_path: Path) -> None:
    import hashlib

    folder = write_dcp(tmp_path / "run", {"a.weight": WEIGHT}, PARTS)
    (row,) = sdviewer("stats", folder, "--hash", "--json").json["tensors"]
    assert (row["min"], row["max"], row["mean"], row["count"]) == (0, 59, 29.5, 60)
    assert row["sha256"] == hashlib.sha256(WEIGHT.numpy().tobytes()).hexdigest()


def test_that_a_problem_in_the_text_says_where(sdviewer: Command, tmp_path: Path) -> None:
    path = write_index(tmp_path / "run", SHARDS, {"lost": "model-00001-of-00002.safetensors"})
    lines = sdviewer("info", path).out.splitlines()
    assert any(line.startswith("  error: lost: ") and "[missing_key]" in line for line in lines)


def test_that_a_folder_of_several_checkpoints_ends_with_three_and_names_them(sdviewer: Command, tmp_path: Path) -> None:
    for name in ("model.pt", "optimizer.bin"):
        torch.save({"a": WEIGHT}, tmp_path / name)
    ran = sdviewer("info", tmp_path, "--json")
    assert ran.code == 3
    assert ran.json["error"]["code"] == "several_checkpoints"
    assert "model.pt, optimizer.bin" in ran.json["error"]["message"]


@pytest.mark.parametrize("kind", ["index", "dcp"])
def test_that_a_repaired_folder_is_one_file_or_a_new_folder(sdviewer: Command, tmp_path: Path, kind: str) -> None:
    folder, recipe = tmp_path / "run", tmp_path / "add.toml"
    recipe.write_text('format = "sdviewer-recipe/1"\n[[step]]\nop = "prefix"\nadd = "model."\n')
    if kind == "index":
        write_index(folder, SHARDS)
    else:
        write_dcp(folder, {"a.weight": WEIGHT})
    keys = [found["key"] for found in sdviewer("info", folder, "--json").json["tensors"]]
    one, several = tmp_path / "out.safetensors", tmp_path / "out"
    for out in (one, several):
        ran = sdviewer("repair", folder, "--recipe", recipe, "-o", out, "--json")
        assert (ran.code, ran.json["verified"]["bits"]) == (0, True)
        written = sdviewer("info", out, "--json").json
        assert sorted(found["key"] for found in written["tensors"]) == sorted(f"model.{key}" for key in keys)
    assert sorted(path.name for path in several.iterdir()) == [
        "model-00001-of-00001.safetensors",
        "model.safetensors.index.json",
    ]
    again = sdviewer("repair", folder, "--recipe", recipe, "-o", several, "--overwrite", "--json")
    assert (again.code, again.json["error"]["code"]) == (4, "exists")
    shard = next(path for path in folder.iterdir() if not path.name.endswith(".json"))
    assert sdviewer("repair", folder, "--recipe", recipe, "-o", shard, "--container", "npz", "--overwrite").code == 2


def test_that_scan_looks_into_every_part_of_a_folder(sdviewer: Command, tmp_path: Path) -> None:
    things = {"a.weight": WEIGHT, "epoch": 3, "hook": RunsCommand(tmp_path)}
    folder = write_dcp(tmp_path / "run", {"a.weight": WEIGHT, "epoch": 3}, PARTS)
    clean = sdviewer("scan", folder, "--json")
    assert (clean.code, clean.json["pickles"]) == (0, 4)
    # How some Pythons 3.11 pickle an enum, which a distributed checkpoint describes its memory formats with.
    unknown = {use["name"] for use in clean.json["globals"] if use["class"] not in ("torch", "plain")}
    assert unknown <= {"builtins.getattr"}
    ran = sdviewer("scan", write_dcp(tmp_path / "evil", things, PARTS), "--json")
    assert (ran.code, ran.json["verdict"]) == (1, "dangerous")
    (found,) = [use for use in ran.json["globals"] if use["class"] == "dangerous"]
    assert found["where"][0].startswith("__")
    assert not (tmp_path / "was_run").exists()


def test_that_scan_reads_a_metadata_file_that_only_pretends(sdviewer: Command, tmp_path: Path) -> None:
    pretends = {"torch.distributed.checkpoint.metadata": "Metadata", "x": RunsCommand(tmp_path)}
    (tmp_path / ".metadata").write_bytes(pickle.dumps(pretends))
    for path in (tmp_path, tmp_path / ".metadata"):
        assert sdviewer("scan", path, "--json").json["verdict"] == "dangerous"
        sdviewer("info", path)
    assert not (tmp_path / "was_run").exists()


def test_that_a_scan_with_a_missing_shard_is_not_complete(sdviewer: Command, tmp_path: Path) -> None:
    path = write_index(tmp_path / "run", {"one.bin": {"a": WEIGHT}, "two.bin": {"b": WEIGHT}})
    (path.parent / "two.bin").unlink()
    ran = sdviewer("scan", path.parent, "--json")
    assert (ran.code, ran.json["complete"]) == (1, False)
    shards = write_index(tmp_path / "harmless", SHARDS)
    (shards.parent / next(iter(SHARDS))).unlink()
    ran = sdviewer("scan", shards.parent, "--json")
    assert (ran.code, ran.json["complete"], ran.json["verdict"]) == (0, True, "clean")

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sdviewer.errors import OpenError, UnknownFormat
from sdviewer.formats import open_checkpoint
from tests.formats.dcp_folders import write_dcp
from tests.formats.test_hf_index import SHARDS, write_index


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"a": torch.ones(2)}, path)
    return path


def named(folder: Path) -> str:
    """The error for a folder of several checkpoints."""
    with pytest.raises(OpenError) as caught:
        open_checkpoint(folder)
    assert caught.value.code == "several_checkpoints"
    return caught.value.message


def test_that_a_folder_means_its_only_checkpoint_whatever_it_is_called(tmp_path: Path) -> None:
    path = save(tmp_path / "weights")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text("a model")
    checkpoint = open_checkpoint(tmp_path)
    assert (checkpoint.path, checkpoint.container, checkpoint.size) == (str(path), "torch-zip", path.stat().st_size)
    assert not checkpoint.shards


def test_that_an_index_comes_before_shards_and_other_files(tmp_path: Path) -> None:
    write_index(tmp_path, SHARDS)
    save(tmp_path / "optimizer.pt")
    assert open_checkpoint(tmp_path).container == "hf-index"


def test_that_metadata_come_before_other_files(tmp_path: Path) -> None:
    """As Megatron's torch_dist: `common.pt` lies beside."""
    write_dcp(tmp_path, {"a": torch.ones(2)})
    save(tmp_path / "common.pt")
    assert open_checkpoint(tmp_path).container == "dcp"


def test_that_several_checkpoints_are_named_and_none_is_guessed(tmp_path: Path) -> None:
    for name in ("model.safetensors", "optimizer.bin", "scheduler.bin"):
        save(tmp_path / name)
    assert "3 checkpoints in this folder: model.safetensors, optimizer.bin, scheduler.bin" in named(tmp_path)


def test_that_two_indexes_are_named(tmp_path: Path) -> None:
    path = write_index(tmp_path, SHARDS)
    (tmp_path / "model.safetensors.index.fp16.json").write_text(path.read_text())
    assert "model.safetensors.index.fp16.json, model.safetensors.index.json" in named(tmp_path)


def test_that_checkpoints_in_subfolders_are_named_each_set_as_its_folder(tmp_path: Path) -> None:
    """Megatron's older folders, a diffusion pipeline, a run with steps."""
    save(tmp_path / "iter_0000010" / "mp_rank_00" / "model_optim_rng.pt")
    save(tmp_path / "iter_0000010" / "mp_rank_01" / "model_optim_rng.pt")
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("10")
    write_index(tmp_path / "unet", SHARDS)
    write_dcp(tmp_path / "step-5", {"a": torch.ones(2)})
    said = named(tmp_path)
    assert "step-5, unet, iter_0000010/mp_rank_00/model_optim_rng.pt" in said
    assert "4 checkpoints" in said


def test_that_the_only_checkpoint_below_is_opened(tmp_path: Path) -> None:
    write_dcp(tmp_path / "runs" / "step-5", {"a": torch.ones(2)})
    assert open_checkpoint(tmp_path).container == "dcp"


def test_that_links_to_folders_are_not_followed_round(tmp_path: Path) -> None:
    save(tmp_path / "sub" / "model.pt")
    (tmp_path / "sub" / "again").symlink_to(tmp_path)
    assert open_checkpoint(tmp_path).path.endswith("model.pt")


@pytest.mark.parametrize("names", [[], ["config.json", "notes.txt"]])
def test_that_a_folder_without_a_checkpoint_says_so(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("{}")
    with pytest.raises(UnknownFormat, match="no checkpoint in this folder") as caught:
        open_checkpoint(tmp_path)
    assert caught.value.path == str(tmp_path)


def test_that_a_damaged_only_checkpoint_is_told_as_such(tmp_path: Path) -> None:
    path = save(tmp_path / "model.pt")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(OpenError, match="breaks off") as caught:
        open_checkpoint(tmp_path)
    assert caught.value.path == str(path)

from __future__ import annotations

import enum
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.errors import CorruptCheckpoint, OpenError
from sdviewer.formats import open_checkpoint
from tests.formats.conftest import elements

PARAMETERS = {
    "embed.weight": torch.arange(35.0).reshape(5, 7),
    "norm.weight": torch.arange(7.0) + 100,
    "scale": torch.tensor(3.5),
    "head.weight": torch.arange(14.0).reshape(2, 7) - 50,
}


class ZeroStageEnum(enum.IntEnum):
    """As DeepSpeed writes its stage: an enum of a class that nobody has when the file is looked at."""

    gradients = 2
    weights = 3


def shapes(*groups: list[str]) -> list[OrderedDict[str, torch.Size]]:
    return [OrderedDict((key, PARAMETERS[key].shape) for key in keys) for keys in groups]


def model_states(**more: Any) -> dict[str, Any]:
    """What a model states file holds besides the module."""
    return {
        "buffer_names": ["running_mean"],
        "shared_params": {"tied.weight": "embed.weight"},
        "ds_version": "0.19.8",
        "global_steps": 10,
        **more,
    }


def write_zero_two(folder: Path, ranks: int, *, step: str = "global_step10") -> Path:
    """Two groups, each flat and padded to the number of ranks, then cut over them."""
    (folder / step).mkdir(parents=True)
    (folder / "latest").write_text(step)
    groups = [["embed.weight", "scale", "head.weight"], ["norm.weight"]]
    module = {key: value.half() for key, value in PARAMETERS.items()} | {"running_mean": torch.arange(3.0)}
    torch.save(model_states(module=module, param_shapes=shapes(*groups)), folder / step / "mp_rank_00_model_states.pt")
    for rank in range(ranks):
        cuts = []
        for keys in groups:
            flat = torch.cat([PARAMETERS[key].flatten() for key in keys])
            flat = torch.cat([flat, torch.full((-len(flat) % (2 * ranks),), -1.0)])
            cuts.append(flat.chunk(ranks)[rank].clone())
        state = {
            "zero_stage": ZeroStageEnum.gradients,
            "partition_count": [ranks, ranks],
            "single_partition_of_fp32_groups": cuts,
            "base_optimizer_state": {"state": {0: {"exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 1e-3}]},
        }
        name = f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        torch.save({"optimizer_state_dict": state, "ds_version": "0.19.8"}, folder / step / name)
    return folder


def write_zero_three(folder: Path, ranks: int) -> Path:
    """Each parameter padded to the number of ranks and cut; a rank's cuts behind one another, in sub-groups."""
    folder.mkdir()
    for rank in range(ranks):
        module = {key: torch.empty(0) for key in PARAMETERS} | {"running_mean": torch.arange(3.0)}
        frozen = torch.arange(9.0)
        each = -(-9 // ranks)
        fragment = torch.cat([frozen, torch.zeros(ranks)])[rank * each : (rank + 1) * each].clone()
        states = model_states(
            module=module,
            param_shapes=shapes(list(PARAMETERS)),
            frozen_param_shapes={"frozen.weight": torch.Size([3, 3])},
            frozen_param_fragments={"frozen.weight": fragment},
        )
        torch.save(states, folder / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt")
        cuts = []
        for value in PARAMETERS.values():
            flat = value.flatten()
            flat = torch.cat([flat, torch.full((-len(flat) % ranks,), -1.0)])
            cuts.append(flat.chunk(ranks)[rank])
        whole = torch.cat(cuts)
        state = {
            "zero_stage": ZeroStageEnum.weights,
            "partition_count": ranks,
            "fp32_flat_groups": [whole[:5].clone(), whole[5:].clone()],
        }
        torch.save({"optimizer_state_dict": state}, folder / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    return folder


def put_together(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """The tensors of the state dict `fp32`, through the public way to their bytes."""
    found = {}
    for index, tensor in enumerate(checkpoint.tensors):
        if tensor.path[0] == "fp32":
            assert tensor.dtype == "float32"
            data = bytearray(elements(checkpoint, index))
            found[str(tensor.key)] = torch.frombuffer(data, dtype=torch.float32).reshape(tensor.shape)
    return found


def assert_whole(checkpoint: Checkpoint, **more: torch.Tensor) -> None:
    found = put_together(checkpoint)
    expected = {
        **PARAMETERS,
        "running_mean": torch.arange(3.0),
        "tied.weight": PARAMETERS["embed.weight"],
        **{key.replace("_", "."): value for key, value in more.items()},
    }
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_that_the_parameters_of_zero_two_are_put_together(tmp_path: Path, ranks: int) -> None:
    checkpoint = open_checkpoint(write_zero_two(tmp_path / "run", ranks))
    assert checkpoint.container == "deepspeed"
    assert not checkpoint.problems
    assert_whole(checkpoint)
    names = {str(tensor.shard) for tensor in checkpoint.tensors if tensor.path[0] != "fp32"}
    assert len(names) == ranks + 1
    roles = {state_dict.path: state_dict.role for state_dict in checkpoint.state_dicts}
    assert roles["fp32",] == roles["mp_rank_00_model_states.pt", "module"] == "model"
    assert all(state_dict.read_only for state_dict in checkpoint.state_dicts)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_that_the_parameters_of_zero_three_are_put_together(tmp_path: Path, ranks: int) -> None:
    checkpoint = open_checkpoint(write_zero_three(tmp_path / "global_step3", ranks))
    assert not checkpoint.problems
    assert_whole(checkpoint, frozen_weight=torch.arange(9.0).reshape(3, 3))


def test_that_shared_parameters_are_one_storage_with_two_names(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_zero_two(tmp_path / "run", 2))
    rows = {tensor.key: tensor for tensor in checkpoint.tensors if tensor.path[0] == "fp32"}
    storage = rows["tied.weight"].storage
    assert storage is not None
    assert storage == rows["embed.weight"].storage
    assert checkpoint.storages[storage].tensors == 2
    whole = next(state_dict for state_dict in checkpoint.state_dicts if state_dict.path == ("fp32",))
    assert whole.nbytes == 4 * (sum(value.numel() for value in PARAMETERS.values()) + 3)


def test_that_groups_of_experts_may_be_cut_over_fewer_ranks(tmp_path: Path) -> None:
    folder = write_zero_two(tmp_path / "run", 2)
    for path in (folder / "global_step10").glob("*_optim_states.pt"):
        states = torch.load(path, weights_only=False)
        states["optimizer_state_dict"]["partition_count"] = [2, 1]
        torch.save(states, path)
    assert_whole(open_checkpoint(folder))


@pytest.mark.parametrize(("stage", "says"), [(2, "group 2 has"), (3, "a rank has")])
def test_that_more_than_padding_behind_the_parameters_is_not_believed(tmp_path: Path, stage: int, says: str) -> None:
    write = write_zero_two if stage == 2 else write_zero_three
    name = "single_partition_of_fp32_groups" if stage == 2 else "fp32_flat_groups"
    folder = write(tmp_path / "run", 2)
    for path in folder.rglob("*_optim_states.pt"):
        states = torch.load(path, weights_only=False)
        groups = states["optimizer_state_dict"][name]
        groups[-1] = torch.cat([groups[-1], torch.zeros(4)])
        torch.save(states, path)
    checkpoint = open_checkpoint(folder)
    assert not put_together(checkpoint)
    assert says in checkpoint.problems[0].message


def test_that_ranks_are_ordered_by_number(tmp_path: Path) -> None:
    """Rank 10 comes after rank 2, not before it."""
    checkpoint = open_checkpoint(write_zero_three(tmp_path / "global_step3", 11))
    assert_whole(checkpoint, frozen_weight=torch.arange(9.0).reshape(3, 3))


def test_that_a_missing_rank_leaves_the_files_shown_and_nothing_put_together(tmp_path: Path) -> None:
    folder = write_zero_two(tmp_path / "run", 3)
    (folder / "global_step10" / "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt").unlink()
    checkpoint = open_checkpoint(folder)
    assert [problem.code for problem in checkpoint.problems] == ["incomplete"]
    assert "3 ranks" in checkpoint.problems[0].message
    assert not put_together(checkpoint)
    assert len(checkpoint.shards) == 3


def test_that_flat_groups_that_are_too_short_are_said(tmp_path: Path) -> None:
    folder = write_zero_three(tmp_path / "global_step3", 2)
    path = folder / "zero_pp_rank_1_mp_rank_00_optim_states.pt"
    state = {"partition_count": 2, "fp32_flat_groups": [torch.zeros(3)]}
    torch.save({"optimizer_state_dict": state}, path)
    checkpoint = open_checkpoint(folder)
    assert not put_together(checkpoint)
    assert "before the end of embed.weight" in checkpoint.problems[0].message


def test_that_hostile_shapes_are_only_a_problem(tmp_path: Path) -> None:
    folder = write_zero_two(tmp_path / "run", 1)
    states = model_states(module={}, param_shapes=[{"a": torch.Size([2**40, 2**40])}, {}])
    torch.save(states, folder / "global_step10" / "mp_rank_00_model_states.pt")
    checkpoint = open_checkpoint(folder)
    assert not put_together(checkpoint)
    assert "2**63" in checkpoint.problems[0].message


def test_that_a_broken_file_of_many_is_a_problem_and_all_broken_are_an_error(tmp_path: Path) -> None:
    folder = write_zero_two(tmp_path / "run", 1)
    inside = folder / "global_step10"
    (inside / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt").write_bytes(b"not a checkpoint")
    assert "shard_unreadable" in {problem.code for problem in open_checkpoint(folder).problems}
    (inside / "mp_rank_00_model_states.pt").write_bytes(b"")
    with pytest.raises(CorruptCheckpoint, match="none of its 2 files"):
        open_checkpoint(folder)


def test_that_latest_leads_nowhere_outside(tmp_path: Path) -> None:
    write_zero_two(tmp_path / "other", 1)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "latest").write_text("../other/global_step10")
    with pytest.raises(OpenError, match="no checkpoint in this folder"):
        open_checkpoint(folder)


def test_that_steps_without_latest_are_named(tmp_path: Path) -> None:
    write_zero_two(tmp_path / "run", 1, step="global_step10")
    write_zero_two(tmp_path / "run", 1, step="global_step20")
    (tmp_path / "run" / "latest").unlink()
    with pytest.raises(OpenError, match="global_step10, global_step20") as caught:
        open_checkpoint(tmp_path / "run")
    assert caught.value.code == "several_checkpoints"

"""Changes around the state dict: values, entries that go, a root that is wrapped, optimizers that follow the keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sdviewer.errors import NoMatch, RepairError
from sdviewer.formats.opening import open_checkpoint
from sdviewer.formats.receipt import Receipt
from sdviewer.formats.saving import save
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import parse_recipe

LEGACY = [False, True]


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def _training(model: nn.Module, *, named: bool = True) -> dict[str, Any]:
    groups = [
        {"params": list(model[3].named_parameters(prefix="3")) if named else list(model[3].parameters()), "lr": 0.5},
        {"params": [one if named else one[1] for one in model.named_parameters() if not one[0].startswith("3.")]},
    ]
    optimizer = torch.optim.AdamW(groups)
    model(torch.ones(5, 3)).square().sum().backward()
    optimizer.step()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "best": 0.25,
        "args": {"name": "run", "tags": ["a", "b"], "note": None},
    }


def _saved(tmp_path: Path, content: Any, recipe: str, *, legacy: bool = False) -> tuple[Any, Receipt]:
    path, out = tmp_path / "in.pt", tmp_path / "out.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    checkpoint = open_checkpoint(str(path))
    plan = make_plan(parse_recipe('format = "sdviewer-recipe/1"\n' + recipe), checkpoint)
    receipt = save(checkpoint, plan, out, ask_torch=False, overwrite=True)
    return torch.load(out, weights_only=True), receipt


def _step(op: str, **fields: str) -> str:
    return f'[[step]]\nop = "{op}"\n' + "".join(f"{name} = {value}\n" for name, value in fields.items())


@pytest.mark.parametrize("legacy", LEGACY)
def test_that_plain_values_change_and_nothing_else_does(legacy: bool, tmp_path: Path) -> None:
    content = _training(_model())
    steps = [
        _step("set_value", path='"epoch"', value="4"),
        _step("set_value", path='"optimizer.param_groups.0.lr"', value="0.125"),
        _step("set_value", path='"args.tags.1"', value='"z"'),
        _step("set_value", path='"args.note"', value='"was none"'),
        _step("set_value", path='"best"', value='{ repr = "None" }'),
    ]
    found, receipt = _saved(tmp_path, content, "".join(steps), legacy=legacy)
    assert (found["epoch"], found["best"], found["args"]) == (
        4,
        None,
        {"name": "run", "tags": ["a", "z"], "note": "was none"},
    )
    assert found["optimizer"]["param_groups"][0]["lr"] == 0.125
    assert found["optimizer"]["param_groups"][1] == content["optimizer"]["param_groups"][1]
    assert all(torch.equal(found["model"][key], tensor) for key, tensor in content["model"].items())
    assert [warning.code for warning in receipt.warnings if warning.code == "value_type"] == ["value_type"] * 2


def test_that_a_value_that_is_not_there_or_is_no_plain_one_is_refused(tmp_path: Path) -> None:
    content = {"model": _model().state_dict(), "when": torch.Size([2]), "list": [1, 2]}
    with pytest.raises(NoMatch, match="epoch"):
        _saved(tmp_path, content, _step("set_value", path='"epoch"', value="1"))
    with pytest.raises(RepairError):
        _saved(tmp_path, content, _step("set_value", path='"when"', value="1"))


@pytest.mark.parametrize("legacy", LEGACY)
def test_that_a_slim_copy_leaves_the_optimizer_out_with_its_bytes(legacy: bool, tmp_path: Path) -> None:
    content = _training(_model())
    whole = tmp_path / "in.pt"
    found, receipt = _saved(tmp_path, content, _step("leave_out", paths='["optimizer", "args.tags"]'), legacy=legacy)
    assert list(found) == ["model", "epoch", "best", "args"]
    assert found["args"] == {"name": "run", "note": None}
    assert set(receipt.dropped) == {"optimizer", "args.tags"}
    assert receipt.size < whole.stat().st_size - 2 * sum(p.nbytes for p in _model().parameters()) / 2


def test_that_what_holds_the_state_dict_cannot_be_left_out(tmp_path: Path) -> None:
    for paths in ('["model"]', '["model.0.weight"]', '["nothing"]'):
        with pytest.raises(NoMatch):
            _saved(tmp_path, _training(_model()), _step("leave_out", paths=paths))


def test_that_an_item_of_a_list_cannot_go_because_those_behind_it_would_move(tmp_path: Path) -> None:
    with pytest.raises(RepairError, match="list"):
        _saved(tmp_path, _training(_model()), _step("leave_out", paths='["args.tags.0"]'))


@pytest.mark.parametrize("legacy", LEGACY)
def test_that_a_bare_state_dict_is_wrapped_as_trainers_keep_it(legacy: bool, tmp_path: Path) -> None:
    state_dict = _model().state_dict()
    found, _ = _saved(tmp_path, state_dict, _step("wrap") + _step("prefix", add='"net."'), legacy=legacy)
    assert list(found) == ["state_dict"]
    assert list(found["state_dict"]) == [f"net.{key}" for key in state_dict]
    assert found["state_dict"]._metadata["net.2"] == {"version": 2}


def test_that_a_state_dict_can_be_taken_out_and_put_under_another_key(tmp_path: Path) -> None:
    content = _training(_model())
    found, _ = _saved(tmp_path, content, _step("unwrap", path='"model"') + _step("wrap", key='"weights"'))
    assert list(found) == ["weights"] and list(found["weights"]) == list(content["model"])


@pytest.mark.parametrize("legacy", LEGACY)
def test_that_a_value_beside_an_unwrapped_state_dict_changes_too(legacy: bool, tmp_path: Path) -> None:
    steps = _step("unwrap", path='"model"', keep_rest="true") + _step("set_value", path='"epoch"', value="9")
    content = _training(_model())
    found, _ = _saved(tmp_path, content, steps + _step("wrap", key='"w"'), legacy=legacy)
    assert (found["w"]["epoch"], found["w"]["best"]) == (9, 0.25)
    assert torch.equal(found["w"]["0.weight"], content["model"]["0.weight"])


class _Body(nn.Module):
    """The model without its second layer, which is what dropping its keys leaves."""

    def __init__(self, model: nn.Sequential) -> None:
        super().__init__()
        self.add_module("0", model[0])
        self.add_module("2", model[2])
        self.add_module("3", model[3])


@pytest.mark.parametrize("legacy", LEGACY)
@pytest.mark.parametrize("named", [False, True])
def test_that_an_optimizer_that_follows_loads_into_an_optimizer_of_the_smaller_model(
    named: bool, legacy: bool, tmp_path: Path
) -> None:
    model = _model()
    content = _training(model, named=named)
    if not named:
        # Without names only the order of the model's parameters says which is which.
        optimizer = torch.optim.AdamW(model.parameters())
        optimizer.step()
        content["optimizer"] = optimizer.state_dict()
    recipe = _step("drop", keys='["1.*"]') + _step("renumber_optimizer")
    found, receipt = _saved(tmp_path, content, recipe, legacy=legacy)
    assert "optimizer_index" not in [warning.code for warning in receipt.warnings]
    old, new = content["optimizer"], found["optimizer"]
    order = [name for group in old["param_groups"] for name in group.get("param_names", [])]
    order = order or [name for name, _ in model.named_parameters()]
    stay = [number for number, name in enumerate(order) if not name.startswith("1.")]
    assert [number for group in new["param_groups"] for number in group["params"]] == list(range(len(stay)))
    assert list(new["state"]) == list(range(len(stay)))
    for number, before in enumerate(stay):
        assert torch.equal(new["state"][number]["exp_avg"], old["state"][before]["exp_avg"])
    if named:
        names = [name for group in new["param_groups"] for name in group["param_names"]]
        assert names == [order[number] for number in stay]
    body = _Body(model)
    sizes = [len(group["params"]) for group in new["param_groups"]]
    parameters = list(body.parameters())
    again = torch.optim.AdamW([{"params": parameters[: sizes[0]]}, {"params": parameters[sizes[0] :]}][: len(sizes)])
    again.load_state_dict(new)


def test_that_the_names_an_optimizer_keeps_follow_a_rename(tmp_path: Path) -> None:
    content = _training(_model())
    found, receipt = _saved(tmp_path, content, _step("prefix", add='"net."'))
    before = [name for group in content["optimizer"]["param_groups"] for name in group["param_names"]]
    after = [name for group in found["optimizer"]["param_groups"] for name in group["param_names"]]
    assert after == [f"net.{name}" for name in before]
    assert not [warning for warning in receipt.warnings if warning.code.startswith("optimizer")]


def test_that_an_optimizer_of_unknown_parameters_cannot_follow(tmp_path: Path) -> None:
    content = _training(_model(), named=False)
    with pytest.raises(RepairError, match="optimizer"):
        _saved(tmp_path, content, _step("drop", keys='["1.*"]') + _step("renumber_optimizer"))


def test_that_a_safetensors_file_says_that_it_has_nothing_beside_its_tensors(tmp_path: Path) -> None:
    path = tmp_path / "in.safetensors"
    save_file({"a": torch.ones(2)}, path)
    checkpoint = open_checkpoint(str(path))
    plan = make_plan(parse_recipe('format = "sdviewer-recipe/1"\n' + _step("wrap")), checkpoint)
    with pytest.raises(RepairError, match="safetensors"):
        save(checkpoint, plan, tmp_path / "out.safetensors")


def test_that_a_value_in_an_object_of_two_places_is_refused_because_both_would_change(tmp_path: Path) -> None:
    both = [1, 2]
    content = {"model": _model().state_dict(), "a": {"x": both}, "b": {"x": both}}
    with pytest.raises(RepairError, match="two places"):
        _saved(tmp_path, content, _step("set_value", path='"a.x.0"', value="5"))

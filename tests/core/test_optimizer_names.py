"""The numbers of an optimizer's state get the names of the parameters they belong to, where the file proves it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from sdviewer.core.optimizer_names import parameter_names
from sdviewer.formats import open_checkpoint


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(3, 4)
        self.bn = torch.nn.BatchNorm1d(4)
        self.out = torch.nn.Linear(4, 3)
        self.out.weight = torch.nn.Parameter(torch.zeros(3, 4))


KEYS = ["fc.weight", "fc.bias", "bn.weight", "bn.bias", "out.weight", "out.bias"]


def trained(model: torch.nn.Module, parameters: Iterable[Any] | None = None) -> dict[str, Any]:
    optimizer = torch.optim.Adam(model.parameters() if parameters is None else parameters)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def names(tmp_path: Path, content: dict[str, Any]) -> dict[str, str]:
    torch.save(content, tmp_path / "training.pth")
    found = open_checkpoint(tmp_path / "training.pth")
    (optimizer,) = [i for i, state_dict in enumerate(found.state_dicts) if state_dict.role == "optimizer"]
    return parameter_names(found, optimizer)


def test_that_the_order_of_the_parameters_names_them_without_the_buffers(tmp_path: Path) -> None:
    assert names(tmp_path, trained(Net())) == {str(i): key for i, key in enumerate(KEYS)}


def test_that_names_the_file_states_come_before_any_order(tmp_path: Path) -> None:
    model = Net()
    backwards = list(model.named_parameters())[::-1]
    assert names(tmp_path, trained(model, backwards)) == {str(i): key for i, key in enumerate(KEYS[::-1])}


@pytest.mark.parametrize("named", [False, True])
def test_that_a_model_of_hundreds_of_parameters_is_named_too(named: bool, tmp_path: Path) -> None:
    model = torch.nn.Sequential(*[torch.nn.Linear(1, 1) for _ in range(150)])
    found = names(tmp_path, trained(model, model.named_parameters() if named else None))
    assert list(found.values()) == [key for key, _ in model.named_parameters()]


def test_that_a_tied_parameter_is_counted_once(tmp_path: Path) -> None:
    model = Net()
    model.tied = torch.nn.Linear(3, 4)
    model.tied.weight = model.fc.weight
    assert list(names(tmp_path, trained(model)).values()) == [*KEYS, "tied.bias"]


def test_that_groups_are_numbered_one_after_the_other(tmp_path: Path) -> None:
    model = Net()
    groups = [{"params": [model.fc.weight, model.fc.bias]}, {"params": list(model.parameters())[2:], "lr": 0.5}]
    assert list(names(tmp_path, trained(model, groups)).values()) == KEYS


@pytest.mark.parametrize("change", ["order", "count"])
def test_that_nothing_is_named_where_shapes_or_counts_disagree(tmp_path: Path, change: str) -> None:
    model = Net()
    chosen = list(model.parameters())[::-1] if change == "order" else list(model.parameters())[:3]
    assert names(tmp_path, trained(model, chosen)) == {}


@pytest.mark.parametrize("named", [True, False])
def test_that_more_parameters_than_are_told_one_by_one_have_names(tmp_path: Path, named: bool) -> None:
    model = torch.nn.ParameterList([torch.ones(1) for _ in range(300)])
    found = names(tmp_path, trained(model, model.named_parameters() if named else model.parameters()))
    assert found == {str(i): str(i) for i in range(300)}


def test_that_entries_which_go_by_name_already_get_no_other(tmp_path: Path) -> None:
    content = trained(Net())
    state = content["optimizer"]["state"]
    content["optimizer"]["state"] = {key: state[i] for i, key in enumerate(reversed(KEYS))}
    content["optimizer"]["param_groups"][0]["params"] = list(reversed(KEYS))
    assert names(tmp_path, content) == {}


def test_that_several_groups_without_moments_are_not_put_in_an_order(tmp_path: Path) -> None:
    model = Net()
    groups = [{"params": list(model.parameters())[3:]}, {"params": list(model.parameters())[:3]}]
    content = {"model": model.state_dict(), "optimizer": torch.optim.SGD(groups).state_dict()}
    assert names(tmp_path, content) == {}

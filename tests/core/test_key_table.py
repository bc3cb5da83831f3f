"""The keys of a checkpoint as one side of a fit, and the way back."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from sdviewer.core.key_table import KeyTable, checkpoint_of_table, key_table_of_checkpoint
from sdviewer.formats import open_checkpoint
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import parse_recipe


def test_that_ties_and_entries_that_are_no_tensors_are_known(tmp_path: Path) -> None:
    weight = torch.zeros(4, 3)
    torch.save(
        {"b": weight, "epoch": 3, "a": weight, "part": weight[1:], "alone": torch.zeros(4, 3)}, tmp_path / "x.pt"
    )
    table = key_table_of_checkpoint(open_checkpoint(tmp_path / "x.pt"), 0)
    assert table.keys == ("b", "epoch", "a", "part", "alone")
    assert table.shapes == ((4, 3), None, (4, 3), (3, 3), (4, 3))
    assert table.dtypes == ("float32", "", "float32", "float32", "float32")
    assert table.ties == ((0, 2),)
    assert table.not_tensors == {1}
    assert table.ordered


def test_that_safetensors_says_nothing_about_the_order_of_registration(tmp_path: Path) -> None:
    save_file({"b": torch.zeros(2), "a": torch.zeros(2)}, tmp_path / "x.safetensors")
    assert not key_table_of_checkpoint(open_checkpoint(tmp_path / "x.safetensors"), 0).ordered


def test_that_a_key_whose_shard_is_not_there_has_no_shape(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"metadata": {}, "weight_map": {"a": "model-1.safetensors"}}')
    table = key_table_of_checkpoint(open_checkpoint(index), 0)
    assert (table.keys, table.shapes) == (("a",), (None,))


def test_that_a_recipe_can_be_planned_on_a_key_list() -> None:
    table = KeyTable(("module.a", "module.b", "n"), ((2, 3), None, None), ("", "int64", ""), not_tensors=frozenset({2}))
    checkpoint = checkpoint_of_table(table, "keys.json")
    recipe = parse_recipe(
        'format = "sdviewer-recipe/1"\n[[step]]\nop = "strip"\nprefix = "module."\nwhen = "any"\n', path="r"
    )
    plan = make_plan(recipe, checkpoint)
    assert [target.key for target in plan.targets] == ["a", "b", "n"]
    assert key_table_of_checkpoint(checkpoint, 0).not_tensors == {2}
    assert checkpoint.state_dicts[0].parameters == 6 + 1

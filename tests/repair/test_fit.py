"""How a fit is put together: what is accepted, what becomes of each key, what is said besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sdviewer.core.key_table import KeyTable, checkpoint_of_table, key_table_of_checkpoint
from sdviewer.errors import RepairError
from sdviewer.repair.fit import Fit, fit_to
from sdviewer.repair.operations import Drop, Strip, Tie, Unwrap
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Source, parse_recipe
from sdviewer.repair.target import Target
from tests.repair.made import checkpoint, model

Shape = tuple[int, ...] | None


def table(*keys: str, shape: Shape = (2, 3), **shapes: Shape) -> KeyTable:
    """Keys of one shape, but for those that are told."""
    return KeyTable(keys, [shapes.get(key, shape) for key in keys], ["float32"] * len(keys))


def fitted(source: KeyTable, target: KeyTable | Target, **options: bool) -> Fit:
    """A list of keys fitted."""
    wanted = target if isinstance(target, Target) else Target("keys", "model", target)
    return fit_to(checkpoint_of_table(source), 0, source, wanted, **options)


def test_that_a_recipe_carried_out_gives_the_map() -> None:
    source, target = table("module.a", "module.b.c"), table("a", "b.c")
    found = fitted(source, target)
    recipe = parse_recipe(found.recipe.to_text())
    assert recipe.steps == (Strip(prefix="module."),)
    plan = make_plan(recipe, model("module.a", "module.b.c"))
    assert [entry.key for entry in plan.targets] == list(found.map.values()) == ["a", "b.c"]
    assert found.after.loads


def test_that_a_key_nobody_can_place_is_unresolved() -> None:
    source = KeyTable(("a", "zzz"), [(2, 3), (7, 7)], ["", ""])
    found = fitted(source, KeyTable(("a", "other"), [(2, 3), (5, 5, 5)], ["", ""]))
    assert found.map["a"] == "a"
    assert found.map["zzz"] is None or found.map["zzz"]["op"] == "drop"  # type: ignore[index]
    assert found.after.missing == ("other",)


def test_that_what_has_another_shape_in_the_model_goes_only_when_that_is_accepted() -> None:
    source, target = table("module.a", "module.head"), table("a", "head", head=(5, 3))
    found = fitted(source, target)
    assert [one.key for one in found.after.mismatched] == ["head"]
    assert found.map == {"module.a": "a", "module.head": "head"}
    assert found.accepted == (True, False)
    taken = fitted(source, target, accept_ambiguous=True)
    assert isinstance(taken.recipe.steps[-1], Drop)
    assert taken.after.missing == ("head",) and not taken.after.mismatched
    assert taken.map["module.head"] == {"op": "drop", "reason": "another shape in the model, which keeps its own"}


@pytest.mark.parametrize("name", ["a", "b"])
def test_that_the_recipe_names_its_state_dict(name: str) -> None:
    made = checkpoint((("a",), "model", ["module.x"]), (("b",), "model", ["module.x"]))
    index = ["a", "b"].index(name)
    source, target = key_table_of_checkpoint(made, index), Target("keys", "model", table("x"))
    inside = fit_to(made, index, source, target)
    assert inside.recipe.source == Source(name)
    assert make_plan(inside.recipe, made).state_dict == index
    root = fit_to(made, index, source, target, to_root=True)
    assert root.recipe.steps == (Unwrap(path=name), Strip(prefix="module."))
    plan = make_plan(root.recipe, made)
    assert (plan.state_dict, plan.unwrap) == (index, True)


def test_that_an_optimizer_is_no_model() -> None:
    made = checkpoint((("optimizer",), "optimizer", ["0.exp_avg"]))
    with pytest.raises(RepairError, match="optimizer"):
        fit_to(made, 0, key_table_of_checkpoint(made, 0), Target("keys", "model", table("x")))


def codes(found: Fit) -> list[str]:
    return [warning.code for warning in found.warnings]


def test_that_it_says_what_the_target_does_not() -> None:
    source = table("a", "b")
    told = Target("message", "log", table("a", "b", b=None))
    found = fitted(source, told)
    assert codes(found) == ["unknown_shapes"]
    assert found.warnings[0].keys == ("b",)
    told = replace(told, incomplete=True, approximate=True, notes=("A note.",))
    assert codes(fitted(source, told)) == ["unknown_shapes", "incomplete_target", "approximate_target", "target_note"]


def test_that_a_list_of_keys_takes_steps_on_tensors() -> None:
    keys: Sequence[str] = [f"blocks.{i}.attn.qkv.weight" for i in range(3)]
    source = KeyTable(tuple(keys), [(24, 8)] * 3, [""] * 3)
    parts = [f"blocks.{i}.attn.{part}.weight" for i in range(3) for part in ("q", "k", "v")]
    found = fitted(source, KeyTable(tuple(parts), [(8, 8)] * 9, [""] * 9))
    assert found.after.loads
    assert found.map[keys[0]] == {"op": "split", "to": parts[:3], "dim": 0, "sizes": [8, 8, 8]}


def test_that_what_the_model_ties_is_tied() -> None:
    source = table("module.embed", "module.b")
    target = replace(table("embed", "b", "head"), ties=((0, 2),))
    found = fitted(source, target)
    assert found.after.loads
    assert found.recipe.steps[-1] == Tie(source="embed", to=("head",))
    assert found.map == {"module.embed": {"op": "tie", "to": ["embed", "head"]}, "module.b": "b"}
    # Neither is there: nothing can be tied, and a tensor that nobody has stays missing.
    assert fitted(table("b"), target).after.missing == ("embed", "head")


def test_that_positions_of_another_size_are_interpolated_when_that_is_accepted() -> None:
    source = KeyTable(("module.pos_embed", "module.w"), [(1, 197, 8), (2, 3)], ["float32"] * 2)
    target = KeyTable(("pos_embed", "w"), [(1, 577, 8), (2, 3)], ["float32"] * 2)
    found = fitted(source, target)
    assert [one.step["op"] for one in found.left_out] == ["resize"]
    taken = fitted(source, target, accept_ambiguous=True)
    assert taken.after.loads
    assert not taken.left_out

"""A recipe that does not go through is carried out as far as it goes."""

from __future__ import annotations

from pathlib import Path

from sdviewer.engine.carrying import carry_out
from sdviewer.engine.deadline import deadline
from sdviewer.formats import open_checkpoint
from sdviewer.repair.operations import Prefix, Replace
from sdviewer.repair.recipe import Recipe
from tests.gui.conftest import write_checkpoint


def test_that_a_recipe_whose_time_is_over_is_not_looked_at_any_further(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(write_checkpoint(tmp_path / "model.safetensors", {"a" * 24 + "b": (2,)})))
    endless = Replace(find="(a+)+$", new="x", syntax="regex")
    with deadline(0.1, "it takes too long", "Look at it."):
        carried = carry_out(Recipe(steps=(endless, Prefix(add="p."))), checkpoint, strict=False)
    assert carried.plan is None
    assert carried.failed is not None
    # Which step it is would have to be tried, one after the other, and each could take as long again.
    assert (carried.failed.step, carried.failed.message) == (-1, "it takes too long")


def test_that_the_first_step_that_fails_is_found_and_those_before_it_are_carried_out(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(write_checkpoint(tmp_path / "model.safetensors", {"a.w": (2,), "b.w": (2,)})))
    steps = (Prefix(add="p."), Replace(find="a.w", new="b.w"), Prefix(add="q."))
    carried = carry_out(Recipe(steps=steps), checkpoint, strict=False)
    assert carried.failed is not None
    assert carried.failed.step == 1
    assert carried.plan is not None
    assert [target.key for target in carried.plan.targets] == ["p.a.w", "p.b.w"]

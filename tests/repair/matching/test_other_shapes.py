"""What is named alike and has another shape is a pair that a person decides about."""

from __future__ import annotations

from collections.abc import Mapping

from sdviewer.core.key_table import KeyTable, checkpoint_of_table
from sdviewer.repair.fit import Fit, fit_to
from sdviewer.repair.matching.matching import match
from sdviewer.repair.target import Target

Shapes = Mapping[str, tuple[int, ...]]

OURS = {"pos_embed": (1, 17, 8), "norm.weight": (8,), "norm.bias": (8,), "head.weight": (10, 8), "head.bias": (10,)}
THEIRS = {
    "vit.embeddings.position_embeddings": (1, 37, 8),
    "vit.layernorm.weight": (8,),
    "vit.layernorm.bias": (8,),
    "classifier.weight": (7, 8),
    "classifier.bias": (7,),
}


def table(shapes: Shapes) -> KeyTable:
    return KeyTable(tuple(shapes), list(shapes.values()), ["float32"] * len(shapes))


def fitted(source: Shapes, target: Shapes, *, accept: bool = False) -> Fit:
    ours = table(source)
    return fit_to(checkpoint_of_table(ours), 0, ours, Target("keys", "m", table(target)), accept_ambiguous=accept)


def test_that_it_is_renamed_and_brought_into_shape_only_when_that_is_accepted() -> None:
    found = fitted(OURS, THEIRS)
    assert sorted(one.step["op"] for one in found.left_out) == ["drop", "rename", "rename", "resize"]
    assert found.map["pos_embed"] == {"op": "ambiguous", "candidates": ["vit.embeddings.position_embeddings"]}
    taken = fitted(OURS, THEIRS, accept=True)
    (resized,) = [one.step for one in taken.suggestions if one.step["op"] == "resize"]
    assert (resized["to"], resized["prefix"]) == ([6, 6], 1)
    assert taken.after.missing == ("classifier.weight", "classifier.bias")
    assert not taken.after.unexpected and not taken.after.mismatched


def test_that_nothing_is_paired_that_is_named_otherwise_or_shaped_too_differently() -> None:
    source = {"norm.weight": (8,), "queue": (5, 9), "q_proj.weight": (8, 4), "stem.weight": (3, 3)}
    target = {"norm.weight": (8,), "teacher": (6, 9), "k_proj.weight": (8, 5), "stem.weight": (4, 4)}
    found = match(table(source), table(target))
    assert [one.sources for one in found.found] == [(0,)]


def test_that_what_is_computed_again_is_not_paired() -> None:
    source = {"norm.weight": (8,), "a.relative_position_index": (49, 8)}
    target = {"norm.weight": (8,), "b.relative_position_index": (144, 8)}
    found = match(table(source), table(target))
    assert len(found.found) == 1
    assert found.drops[1] == "index table, computed again"

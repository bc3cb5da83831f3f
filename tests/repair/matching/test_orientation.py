"""Matrices that lie the other way round on the other side are found as such, whole, cut, joined and stacked."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sdviewer.core.key_table import KeyTable, checkpoint_of_table
from sdviewer.repair.fit import Fit, fit_to
from sdviewer.repair.matching.matching import match
from sdviewer.repair.target import Target

Shapes = Mapping[str, tuple[int, ...]]
D = 12


def table(shapes: Shapes) -> KeyTable:
    return KeyTable(tuple(shapes), list(shapes.values()), ["float32"] * len(shapes))


def fitted(source: Shapes, target: Shapes) -> Fit:
    ours = table(source)
    return fit_to(checkpoint_of_table(ours), 0, ours, Target("keys", "m", table(target)))


def blocks(conv1d: Shapes, linear: Shapes) -> tuple[Shapes, Shapes]:
    """Two blocks of each: weights with their biases, the first stored as (in, out)."""

    def all_of(layers: Shapes, prefix: str, out: int) -> Shapes:
        found: dict[str, tuple[int, ...]] = {}
        for i in range(2):
            for name, shape in layers.items():
                found[f"{prefix}.{i}.{name}.weight"] = shape
                found[f"{prefix}.{i}.{name}.bias"] = (shape[out],)
        return found

    return all_of(conv1d, "h", 1), all_of(linear, "layers", 0)


GPT, SEPARATE = blocks(
    {"attn.c_attn": (D, 3 * D), "attn.c_proj": (D, D), "mlp.c_fc": (D, 4 * D), "mlp.c_proj": (4 * D, D)},
    {
        **{f"attn.{part}_proj": (D, D) for part in ("q", "k", "v", "out")},
        "mlp.fc1": (4 * D, D),
        "mlp.fc2": (D, 4 * D),
    },
)
MANY: Shapes = {
    f"layers.{i}.experts.{j}.{name}.weight": shape
    for i in range(2)
    for j in range(4)
    for name, shape in (("gate_proj", (20, D)), ("up_proj", (20, D)), ("down_proj", (D, 20)))
}
STACKED: Shapes = {
    f"layers.{i}.experts.{name}": shape
    for i in range(2)
    for name, shape in (("gate_up_proj", (4, D, 40)), ("down_proj", (4, 20, D)))
}


@pytest.mark.parametrize(("source", "target"), [(GPT, SEPARATE), (SEPARATE, GPT)])
def test_that_a_layer_is_not_taken_for_the_one_whose_shape_is_its_own_turned_round(
    source: Shapes, target: Shapes
) -> None:
    found = fitted(source, target)
    assert found.after.loads
    partner = {"c_fc": "fc1", "fc1": "c_fc", "c_proj": "fc2", "fc2": "c_proj"}
    for i in range(2):
        ours, theirs = ("h", "layers") if source is GPT else ("layers", "h")
        for name in ("c_fc", "c_proj") if source is GPT else ("fc1", "fc2"):
            new = f"{theirs}.{i}.mlp.{partner[name]}"
            told = found.map[f"{ours}.{i}.mlp.{name}.weight"]
            assert isinstance(told, dict)
            assert (told["op"], told["to"]) == ("transpose", f"{new}.weight")
            assert found.map[f"{ours}.{i}.mlp.{name}.bias"] == f"{new}.bias"
    turned = [one for one in found.suggestions if one.step["op"] == "transpose"]
    attention = [key for one in turned for key in one.step["keys"] if "q_proj" in key or "c_attn" in key]
    assert len(attention) == 1
    cut = [one.step for one in found.suggestions if one.step["op"] in ("split", "fuse")]
    assert all(step.get("dim", 0) == (1 if source is GPT and "c_attn.weight" in str(step) else 0) for step in cut)


def test_that_a_square_matrix_that_is_turned_for_its_neighbours_is_not_proved() -> None:
    source, target = table(GPT), table(SEPARATE)
    found = match(source, target)
    by_key = {source.keys[one.sources[0]]: one for one in found.found}
    assert (by_key["h.0.attn.c_proj.weight"].relation, by_key["h.0.attn.c_proj.weight"].evidence) == (
        "transpose",
        "likely",
    )
    assert by_key["h.0.mlp.c_fc.weight"].relation == "transpose"


def test_that_nothing_is_turned_where_both_sides_lie_alike() -> None:
    other = {key.replace("layers", "blocks"): shape for key, shape in SEPARATE.items()}
    assert {one.relation for one in match(table(SEPARATE), table(other)).found} == {"rename"}


def test_that_stacked_experts_may_lie_the_other_way_round() -> None:
    found = fitted(MANY, STACKED)
    assert found.after.loads
    assert [one.step["op"] for one in found.suggestions] == ["stack", "fuse", "stack", "transpose"]
    (swap,) = [one for caution in found.suggestions[-1].cautions for one in caution.steps]
    assert (swap["op"], swap["dim"]) == ("reorder", 2)


def test_that_a_stack_of_one_projection_is_not_another_one_of_its_shape() -> None:
    found = fitted(MANY, {key: shape for key, shape in STACKED.items() if "down" in key})
    joined = {key for key, told in found.map.items() if isinstance(told, dict) and told["op"] != "drop"}
    assert joined == {key for key in MANY if "down_proj" in key}


def test_that_kernels_of_tensorflow_are_permuted_as_it_stores_them() -> None:
    found = fitted(
        {"stem.kernel": (3, 3, 3, 64), "stem.bias": (64,)}, {"stem.weight": (64, 3, 3, 3), "stem.bias": (64,)}
    )
    assert found.after.loads
    (step,) = [one for one in found.suggestions if one.step["op"] != "rename"]
    assert (step.step["order"], step.evidence) == ([3, 2, 0, 1], "likely")

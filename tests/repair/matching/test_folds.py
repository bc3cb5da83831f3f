"""Weights in several tensors become one where the target has one, and are matched as that one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from sdviewer.core.key_table import KeyTable, checkpoint_of_table
from sdviewer.repair.fit import Fit, fit_to
from sdviewer.repair.matching.contents import View
from sdviewer.repair.matching.matching import match
from sdviewer.repair.target import Target

Shapes = Mapping[str, tuple[int, ...]]

OLD = {"enc.{i}.conv.weight_g": (8, 1, 1), "enc.{i}.conv.weight_v": (8, 4, 3), "enc.{i}.conv.bias": (8,)}
NEW = {
    "enc.{i}.conv.bias": (8,),
    "enc.{i}.conv.parametrizations.weight.original0": (8, 1, 1),
    "enc.{i}.conv.parametrizations.weight.original1": (8, 4, 3),
}
PLAIN = {"encoder.{i}.conv.weight": (8, 4, 3), "encoder.{i}.conv.bias": (8,)}
ADAPTED = {
    "base_model.model.h.{i}.q.base_layer.weight": (8, 8),
    "base_model.model.h.{i}.q.lora_A.default.weight": (2, 8),
    "base_model.model.h.{i}.q.lora_B.default.weight": (8, 2),
    "base_model.model.h.{i}.mlp.weight": (8, 16),
}
BASE = {"h.{i}.q.weight": (8, 8), "h.{i}.mlp.weight": (8, 16)}


def table(shapes: Shapes) -> KeyTable:
    """Two blocks."""
    blocks = {key.format(i=i): shape for i in range(2) for key, shape in shapes.items()}
    return KeyTable(tuple(blocks), list(blocks.values()), ["float32"] * len(blocks))


def fitted(source: Shapes, target: Shapes, *, accept: bool = False) -> Fit:
    ours = table(source)
    return fit_to(checkpoint_of_table(ours), 0, ours, Target("keys", "m", table(target)), accept_ambiguous=accept)


def steps(found: Fit) -> list[tuple[str, str]]:
    return [(one.step["op"], one.evidence) for one in found.suggestions]


def test_that_a_weight_norm_is_folded_for_a_target_without_one() -> None:
    for source in (OLD, NEW):
        found = fitted(source, PLAIN)
        assert found.after.loads
        assert steps(found)[0] == ("weight_norm", "likely")
    told = fitted(OLD, PLAIN).map
    assert told["enc.1.conv.weight_g"] == told["enc.1.conv.weight_v"]
    assert told["enc.1.conv.weight_v"] == {"op": "weight_norm", "to": "encoder.1.conv.weight"}


def test_that_a_weight_norm_gets_the_form_of_the_target() -> None:
    renamed = {key.replace("enc.", "encoder."): shape for key, shape in NEW.items()}
    found = fitted(OLD, renamed)
    assert found.after.loads
    assert dict(found.suggestions[0].step) == {"op": "weight_norm", "to": "new"}
    back = fitted(renamed, OLD)
    assert back.after.loads
    assert dict(back.suggestions[0].step) == {"op": "weight_norm", "to": "old"}
    assert [one.step["op"] for one in fitted(OLD, OLD).suggestions] == []


def test_that_a_spectral_norm_and_pruning_masks_are_folded() -> None:
    norm = {"module.a{i}.weight_orig": (8, 4), "module.a{i}.weight_u": (8,), "module.a{i}.weight_v": (4,)}
    masks = {"module.a{i}.weight_orig": (8, 4), "module.a{i}.weight_mask": (8, 4)}
    for source, op in ((norm, "spectral_norm"), (masks, "prune")):
        found = fitted(source, {"a{i}.weight": (8, 4)})
        assert found.after.loads
        assert steps(found)[0] == (op, "likely")
        assert found.map["module.a0.weight_orig"] == {"op": op, "to": "a0.weight"}
    assert steps(fitted(masks, masks)) == []


def test_that_adapters_without_an_alpha_are_merged_only_when_that_is_accepted() -> None:
    left = fitted(ADAPTED, BASE)
    assert steps(left)[0] == ("merge_lora", "ambiguous")
    assert len(left.after.matched) == 4 and len(left.after.unexpected) == 4
    assert fitted(ADAPTED, BASE, accept=True).after.loads
    scaled = fitted({"x.{i}.lora_down.weight": (2, 8), "x.{i}.lora_up.weight": (8, 2), "x.{i}.alpha": ()} | {
        "x.{i}.weight": (8, 8)
    }, {"x.{i}.weight": (8, 8)})  # fmt: skip
    assert steps(scaled) == [("merge_lora", "likely")]
    assert scaled.after.loads
    kron = {"x.{i}.lokr_w1": (2, 2), "x.{i}.lokr_w2": (4, 4), "x.{i}.dora_scale": (1, 8), "x.{i}.alpha": ()}
    folded = fitted({"x.{i}.weight": (8, 8), **kron}, {"x.{i}.weight": (8, 8)})
    assert steps(folded) == [("merge_lora", "likely")]
    assert folded.after.loads


def test_that_every_position_of_the_source_is_told_of() -> None:
    source, target = table(OLD), table(PLAIN)
    found = match(source, target)
    told = {at for one in found.found for at in one.sources} | set(found.drops)
    assert told == set(range(len(source)))
    weight = source.keys.index("enc.1.conv.weight_v")
    (one,) = [one for one in found.found if weight in one.sources]
    assert target.keys[one.targets[0]] == "encoder.1.conv.weight"
    assert found.drops[source.keys.index("enc.1.conv.weight_g")] == 'goes into "enc.1.conv.weight"'


def test_that_pairs_by_hand_and_values_are_those_of_the_source() -> None:
    source, target = table(OLD), table(PLAIN)
    bias = source.keys.index("enc.0.conv.bias")
    asked: list[int] = []

    def contents(of_source: Sequence[View], of_target: Sequence[View]) -> tuple[list[Hashable], list[Hashable]]:
        asked.extend([view.at for view in of_source])
        return [None] * len(of_source), [None] * len(of_target)

    hand = (bias, target.keys.index("encoder.1.conv.bias"))
    found = match(source, target, hand=[hand], contents=contents)
    assert [(one.sources, one.targets) for one in found.found if one.by == "hand"] == [((hand[0],), (hand[1],))]
    assert set(asked) <= set(range(len(source)))
    assert source.keys.index("enc.1.conv.weight_g") not in asked

"""One pair that a person makes teaches a rule, with what else it would fix and break."""

from __future__ import annotations

import pytest

from sdviewer.errors import UsageError
from sdviewer.repair.rules import learn
from tests.repair.rules.tables import table

PARTS = ("weight", "bias")


def blocks(ffn: str, fc1: str, fc2: str) -> list[str]:
    return [f"blocks.{i}.{ffn}.{fc}.{p}" for i in range(12) for fc in (fc1, fc2) for p in PARTS]


def test_that_one_pair_fixes_its_whole_family() -> None:
    source, target = table(blocks("ffn.layers", "0.0", "1")), table(blocks("mlp", "fc1", "fc2"))
    lesson = learn(source, target, [("blocks.0.ffn.layers.0.0.weight", "blocks.0.mlp.fc1.weight")])
    rule = lesson.rule
    assert (rule.pattern, rule.result) == ("blocks.{i}.ffn.layers.0.0.{p}", "blocks.{i}.mlp.fc1.{p}")
    assert rule.step == {"op": "rename", "rules": [[rule.pattern, rule.result]]}
    assert (rule.fixes, rule.breaks, rule.others) == (24, 0, 0)
    assert rule.fixed[1] == ("blocks.0.ffn.layers.0.0.bias", "blocks.0.mlp.fc1.bias")
    narrowest = lesson.narrower[-1]
    assert (narrowest.pattern, narrowest.fixes) == ("blocks.0.ffn.layers.0.0.weight", 1)
    assert [one.fixes for one in lesson.variants] == sorted(one.fixes for one in lesson.variants)


def test_that_a_rule_that_would_break_what_is_right_is_not_proposed() -> None:
    keys = ["h.0.a.weight", "h.1.a.weight", "h.2.a.weight"]
    source = table([*keys, "h.1.b.weight"])
    target = table(["h.0.b.weight", "h.1.a.weight", "h.2.a.weight", "h.1.b.weight"])
    lesson = learn(source, target, [("h.0.a.weight", "h.0.b.weight")])
    assert (lesson.rule.fixes, lesson.rule.breaks) == (1, 0)
    (wide,) = [one for one in lesson.wider if one.pattern == "h.{i}.a.{p}"]
    assert (wide.fixes, wide.breaks) == (1, 2)
    assert ("h.1.a.weight", "h.1.b.weight") in wide.broken


def test_that_another_shape_is_no_fix() -> None:
    source = table(["h.0.a.w", "h.1.a.w"], {"h.1.a.w": (2, 2)})
    target = table(["h.0.b.w", "h.1.b.w"])
    lesson = learn(source, target, [("h.0.a.w", "h.0.b.w")])
    assert (lesson.rule.fixes, lesson.rule.breaks) == (1, 0)
    assert max(one.breaks for one in lesson.variants) == 1


def test_that_numbers_that_are_counted_from_one_are_seen() -> None:
    source = table([f"layer{s}.{b}.conv{c}.weight" for s in (1, 2, 3) for b in (0, 1) for c in (1, 2)])
    target = table([f"stages.{s}.blocks.{b}.convs.{c}.weight" for s in range(3) for b in (0, 1) for c in (0, 1)])
    lesson = learn(source, target, [("layer1.0.conv1.weight", "stages.0.blocks.0.convs.0.weight")])
    assert lesson.rule.result == "stages.{i-1}.blocks.{j}.convs.{k-1}.{p}"
    assert lesson.rule.fixes == 12


def test_that_a_second_pair_narrows_what_the_first_can_mean() -> None:
    source = table([f"a.{i}.x.{j}.w" for i in range(3) for j in range(3)])
    target = table([f"b.{j}.y.{i}.w" for i in range(3) for j in range(3)])
    first, second = ("a.1.x.1.w", "b.1.y.1.w"), ("a.0.x.2.w", "b.2.y.0.w")
    assert learn(source, target, [first, second]).rule.result == "b.{j}.y.{i}.{p}"
    assert learn(source, target, [second, first]).rule.fixes == 9


def test_that_a_pair_needs_keys_of_both_sides() -> None:
    source, target = table(["a.w"]), table(["b.w"])
    with pytest.raises(UsageError, match="one of the target"):
        learn(source, target, [("a.w", "c.w")])
    with pytest.raises(UsageError, match="no pair"):
        learn(source, target, [])

from __future__ import annotations

from collections import OrderedDict
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from sdviewer.errors import KeyCollision, NoMatch, RepairError, UsageError
from sdviewer.repair.operations import (
    Drop,
    Expect,
    Keep,
    Operation,
    Prefix,
    Rename,
    Replace,
    ReplacePrefix,
    Strip,
    Unwrap,
)
from sdviewer.repair.plan import Plan
from sdviewer.repair.planning import key_map, make_plan, preview, preview_operation
from sdviewer.repair.recipe import Recipe, Source
from sdviewer.repair.state_dicts import choose_state_dict
from tests.repair.made import checkpoint, model


def planned(*steps: Operation, keys: tuple[str, ...], modules: tuple[str, ...] = ()) -> Plan:
    return make_plan(Recipe(steps=steps), model(*keys, modules=modules))


def result(*steps: Operation, keys: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(keys[target.value.entry], target.key) for target in planned(*steps, keys=keys).targets]


def codes(plan: Plan) -> list[str]:
    return [warning.code for warning in plan.warnings]


def test_that_a_plan_knows_which_keys_dropped_entries_would_have() -> None:
    keys = ("module.a.w", "module.head.w", "module.head.b")
    head = ("head.*",)
    plan = planned(Strip(prefix="module."), Drop(keys=head), ReplacePrefix(old="head.", new="fc."), keys=keys)
    assert plan.would_be == {1: "fc.w", 2: "fc.b"}
    plan = planned(Drop(keys=("module.head.*",)), Strip(prefix="module."), Drop(keys=head), keys=keys)
    assert plan.would_be == {1: "head.w", 2: "head.b"}
    assert planned(Strip(prefix="module."), keys=keys).would_be == {}


# Which state dict


def test_that_the_only_model_is_chosen_beside_ema_and_optimizer() -> None:
    file = checkpoint((("ema",), "ema", ["a"]), (("opt",), "optimizer", ["0"]), (("model",), "model", ["a"]))
    assert choose_state_dict(file) == choose_state_dict(file, "auto") == 2
    assert choose_state_dict(file, "ema") == 0


def test_that_several_models_are_listed_and_a_name_decides() -> None:
    file = checkpoint((("gen", "net"), "model", ["a"]), (("disc",), "model", ["b"]))
    with pytest.raises(UsageError, match=r'"gen.net" \(model, 1 tensor\), "disc"') as caught:
        make_plan(Recipe(steps=(Prefix(add="x."),)), file)
    assert caught.value.exit_code == 2
    assert make_plan(Recipe(steps=(Prefix(add="x."),)), file, state_dict="gen.net").state_dict == 0
    assert make_plan(Recipe(source=Source("disc"), steps=(Prefix(add="x."),)), file).state_dict == 1


def test_that_an_empty_name_means_the_root() -> None:
    file = checkpoint(((), "model", ["a"]), (("disc",), "model", ["b"]))
    assert choose_state_dict(file, "") == 0


def test_that_a_name_that_is_not_there_is_wrong_usage_and_in_a_recipe_an_unmet_guard() -> None:
    file = checkpoint((("model",), "model", ["a"]))
    with pytest.raises(UsageError, match='"model"'):
        make_plan(Recipe(), file, state_dict="net")
    with pytest.raises(NoMatch):
        make_plan(Recipe(source=Source("net")), file)


def test_that_a_recipe_without_steps_needs_no_state_dict() -> None:
    assert make_plan(Recipe(), checkpoint()).state_dict is None
    assert make_plan(Recipe(steps=(Strip(prefix="a.", enabled=False),)), checkpoint()).steps[0].enabled is False
    with pytest.raises(NoMatch):
        make_plan(Recipe(steps=(Prefix(add="a."),)), checkpoint())


def test_that_a_recipe_without_steps_keeps_every_entry_of_the_only_model() -> None:
    plan = make_plan(Recipe(), model("a", "b"))
    assert [(target.key, target.value.entry) for target in plan.targets] == [("a", 0), ("b", 1)]


def test_that_keys_that_cannot_be_edited_are_refused_with_the_reason() -> None:
    with pytest.raises(RepairError, match="lies in a shard"):
        make_plan(Recipe(steps=(Prefix(add="a."),)), model("w", read_only="lies in a shard"))
    file = checkpoint((("opt",), "optimizer", ["0"]))
    with pytest.raises(RepairError, match="numbers parameters"):
        make_plan(Recipe(steps=(Prefix(add="a."),)), file, state_dict="opt")
    with pytest.raises(RepairError, match="numbers parameters"):
        preview_operation(Recipe(), Prefix(add="a."), file, state_dict="opt")


# Steps


def test_that_steps_see_what_the_one_before_left() -> None:
    steps = (Strip(prefix="module."), Rename(rules=(("fc.*", "head.*"),)), Drop(keys=("head.bias",)))
    assert result(*steps, keys=("module.fc.weight", "module.fc.bias")) == [("module.fc.weight", "head.weight")]


def test_that_a_shift_needs_no_detour_and_keeps_the_order_of_the_file() -> None:
    rules = (("layers.0", "stem"), ("layers.{i}", "layers.{i-1}"))
    assert result(Rename(rules=rules), keys=("layers.1", "layers.0", "layers.2")) == [
        ("layers.1", "layers.0"),
        ("layers.0", "stem"),
        ("layers.2", "layers.1"),
    ]


def test_that_the_first_rule_that_matches_wins_whether_literal_or_not() -> None:
    assert result(Rename(rules=(("a.*", "x"), ("a.b", "y"))), keys=("a.b",)) == [("a.b", "x")]
    assert result(Rename(rules=(("a.b", "y"), ("a.*", "x"))), keys=("a.b",)) == [("a.b", "y")]
    assert result(Rename(rules=(("a.b", "y"), ("a.b", "z"))), keys=("a.b",)) == [("a.b", "y")]


def test_that_the_first_of_many_rules_renames_as_the_first_of_few() -> None:
    parts = ("a", "b", "*", "**", "{x}")
    patterns = [".".join(some) for some in product(parts, repeat=2) if some.count("**") + some.count("{x}") < 2]
    patterns += ["re:b$", "c.{y...}", "**.c", "a.c{i}"]
    keys = [".".join(some) for n in (1, 2, 3) for some in product(("a", "b", "c", "c1"), repeat=n)]
    alone = [Rename(rules=((pattern, f"new{i}"),)).plan(keys).new_keys for i, pattern in enumerate(patterns)]
    all_at_once = Rename(rules=tuple([(pattern, f"new{i}") for i, pattern in enumerate(patterns)])).plan(keys).new_keys
    for key, new, each in zip(keys, all_at_once, zip(*alone, strict=True), strict=True):
        assert new == next((one for one in each if one != key), key)
    assert len(set(all_at_once)) > 8


def test_that_only_the_restricted_keys_are_touched() -> None:
    step = Strip(prefix="module.", keys=("module.enc.**",))
    assert result(step, keys=("module.enc.w", "module.dec.w")) == [
        ("module.enc.w", "enc.w"),
        ("module.dec.w", "module.dec.w"),
    ]


def test_that_a_disabled_step_does_nothing() -> None:
    assert result(Drop(keys=("**",), enabled=False), keys=("a",)) == [("a", "a")]


def test_that_a_strip_wants_every_key_to_have_the_prefix_unless_told() -> None:
    keys = ("module.a", "n_averaged")
    with pytest.raises(NoMatch, match=r'step 1 .*1 of 2 keys lack "module.": "n_averaged".*averaged model'):
        planned(Strip(prefix="module."), keys=keys)
    assert result(Strip(prefix="module.", when="any"), keys=keys) == [("module.a", "a"), ("n_averaged", "n_averaged")]


@pytest.mark.parametrize("key", ["module._orig_mod.a.w", "_orig_mod.module.a.w", "a.module.module.w"])
def test_that_components_go_in_any_order_and_number(key: str) -> None:
    assert result(Strip(components=("module", "_orig_mod")), keys=(key,)) == [(key, "a.w")]


def test_that_a_component_is_no_substring_and_no_own_name() -> None:
    keys = ("submodule.w", "a.module")
    assert result(Strip(components=("module",)), keys=keys) == list(zip(keys, keys, strict=True))


@pytest.mark.parametrize(
    ("step", "keys"),
    [
        (Strip(prefix="module.", when="any"), ("module.a", "a")),
        (Rename(rules=(("{x}.w", "w"),)), ("a.w", "b.w")),
        (Replace(find="1", new="2"), ("a1", "a2")),
        (ReplacePrefix(old="a.", new="b."), ("a.w", "b.w")),
    ],
)
def test_that_two_keys_never_become_one(step: Operation, keys: tuple[str, str]) -> None:
    with pytest.raises(KeyCollision) as caught:
        planned(step, keys=keys)
    assert f'"{keys[0]}"' in str(caught.value)
    assert caught.value.exit_code == 1


def test_that_a_key_that_becomes_leaf_and_branch_is_refused_in_both_directions() -> None:
    with pytest.raises(KeyCollision, match=r'"b" would become "a", under which "a\.w" stands'):
        planned(Rename(rules=(("b", "a"),)), keys=("b", "a.w"))
    with pytest.raises(KeyCollision, match=r'"a", under which "a\.x\.w" stands'):
        planned(Rename(rules=(("b.w", "a.x.w"),)), keys=("a", "b.w"))


def test_that_what_the_source_already_had_is_left_to_it() -> None:
    assert result(Prefix(add="m."), keys=("a", "a.w")) == [("a", "m.a"), ("a.w", "m.a.w")]
    assert len(planned(Prefix(add="m."), keys=("a", "a")).targets) == 2


def test_that_an_empty_key_of_the_source_is_above_nothing() -> None:
    assert result(Rename(rules=(("a", "b"),)), keys=("", "a")) == [("", ""), ("a", "b")]


def test_that_a_chain_counts_the_keys_that_the_rule_before_left() -> None:
    rules = (("a.{i}", "b.{i}"), ("b.{i}", "c.{n-1-i}"))
    assert result(Rename(rules=rules, mode="chain"), keys=("a.0", "a.1")) == [("a.0", "c.1"), ("a.1", "c.0")]


def test_that_an_empty_key_is_refused() -> None:
    with pytest.raises(RepairError, match="empty key"):
        planned(Strip(prefix="w"), keys=("w",))


def test_that_expectations_are_checked() -> None:
    keys = ("a.w", "b.w")
    planned(Rename(rules=(("a.w", "c.w"), ("x", "y")), expect=Expect(1, 1, 1)), keys=keys)
    for expect in (Expect(matched=2), Expect(changed=0), Expect(dead_rules=0)):
        with pytest.raises(RepairError, match="expected"):
            planned(Rename(rules=(("a.w", "c.w"), ("x", "y")), expect=expect), keys=keys)


def test_that_a_step_report_counts_what_was_done() -> None:
    plan = planned(Drop(keys=("a.*", "x.**")), keys=("a.w", "a.b", "c"))
    assert (plan.steps[0].matched, plan.steps[0].changed, plan.steps[0].dead_rules) == (2, 2, ('"x.**"',))
    assert codes(plan) == ["dead_rule"]


def test_that_guards_stop_a_recipe_before_its_steps() -> None:
    steps = (Prefix(add="m."),)
    with pytest.raises(NoMatch, match=r'requires "b\.\{i\}\.w"'):
        make_plan(Recipe(source=Source(require=("b.{i}.w",)), steps=steps), model("a.w"))
    with pytest.raises(RepairError, match=r'forbids "m\.\*\*"'):
        make_plan(Recipe(source=Source(forbid=("m.**",)), steps=steps), model("m.a.w"))
    plan = make_plan(Recipe(source=Source(require=("a.*",), forbid=("m.**",), tensors=5), steps=steps), model("a.w"))
    assert codes(plan) == ["tensor_count"]


# What a drop may break


def test_that_a_tie_split_by_a_drop_is_said() -> None:
    file = model("wte", "head", "x", storages={"wte": "0", "head": "0"})
    plan = make_plan(Recipe(steps=(Drop(keys=("head",)),)), file)
    assert [(warning.code, warning.keys) for warning in plan.warnings] == [("tie_split", ("head",))]
    assert codes(make_plan(Recipe(steps=(Drop(keys=("head", "wte")),)), file)) == []
    assert codes(make_plan(Recipe(steps=(Drop(keys=("x",)),)), file)) == []


def test_that_dropping_beside_an_optimizer_is_said_and_renaming_only_where_it_holds_names() -> None:
    names = (("opt", "param_groups", "param_names"),)
    for values, step, expected in (
        ((), Drop(keys=("a",)), ["optimizer_index"]),
        ((), Prefix(add="m."), []),
        (names, Prefix(add="m."), ["optimizer_names"]),
        (names, Rename(rules=(("a", "a"),)), []),
    ):
        file = checkpoint((("model",), "model", ["a", "b"]), (("opt",), "optimizer", ["0"]), values=values)
        assert codes(make_plan(Recipe(steps=(step,)), file)) == expected
        assert codes(make_plan(Recipe(steps=(Unwrap(), step)), file)) == []


def test_that_a_pickled_module_lets_only_own_names_change() -> None:
    file = model("fc.gamma", "fc.bias", is_module=True)
    plan = make_plan(Recipe(steps=(Rename(rules=(("fc.gamma", "fc.weight"),)),)), file)
    assert codes(plan) == ["pickled_module"]
    assert codes(make_plan(Recipe(steps=(Drop(keys=("fc.bias",)),)), file)) == ["pickled_module"]
    with pytest.raises(RepairError, match=r"pickled module.*`extract`"):
        make_plan(Recipe(steps=(Prefix(add="m."),)), file)
    detour = (Prefix(add="m."), Strip(prefix="m."))
    assert codes(make_plan(Recipe(steps=detour), file)) == []


# Unwrapping


def test_that_unwrapping_makes_the_state_dict_the_root_and_lists_what_is_left_out() -> None:
    file = checkpoint(
        (("ck", "model"), "model", ["a"]),
        (("ck", "opt"), "optimizer", ["0"]),
        values=[("epoch",), ("args", "lr"), ("args", "wd")],
    )
    plan = make_plan(Recipe(steps=(Unwrap(path="auto"), Prefix(add="m."))), file)
    assert plan.unwrap
    assert not plan.keep_rest
    assert plan.left_out == ("epoch", "args", "ck.opt")
    assert [target.key for target in plan.targets] == ["m.a"]
    kept = make_plan(Recipe(steps=(Unwrap(path="ck.model", keep_rest=True),)), file)
    assert kept.left_out == ("ck.opt",)


def test_that_an_unwrapped_path_decides_between_several_models_and_can_be_nested() -> None:
    file = checkpoint((("gen", "net"), "model", ["a"]), (("disc",), "model", ["b"]))
    assert make_plan(Recipe(steps=(Unwrap(path="disc"),)), file).state_dict == 1
    assert make_plan(Recipe(steps=(Unwrap(path="gen.net"),)), file).state_dict == 0
    with pytest.raises(UsageError, match="several"):
        make_plan(Recipe(steps=(Unwrap(path="auto"),)), file)
    with pytest.raises(NoMatch, match='"nothing"'):
        make_plan(Recipe(steps=(Unwrap(path="nothing"),)), file)


def test_that_an_unwrap_that_comes_too_late_is_refused() -> None:
    file = checkpoint(((), "model", ["a"]), (("ema",), "ema", ["b"]))
    with pytest.raises(UsageError, match="before the steps"):
        make_plan(Recipe(steps=(Prefix(add="m."), Unwrap(path="ema"))), file)
    assert make_plan(Recipe(steps=(Unwrap(path="ema"), Prefix(add="m."))), file).state_dict == 1


def test_that_unwrapping_the_root_is_a_warning() -> None:
    plan = planned(Unwrap(path="auto"), keys=("a",))
    assert not plan.unwrap
    assert codes(plan) == ["nothing_to_unwrap"]


def test_that_a_kept_rest_must_not_meet_a_key() -> None:
    file = checkpoint((("model",), "model", ["epoch"]), values=[("epoch",)])
    with pytest.raises(KeyCollision, match="entry of the root"):
        make_plan(Recipe(steps=(Unwrap(path="auto", keep_rest=True),)), file)
    assert make_plan(Recipe(steps=(Unwrap(path="auto"),)), file).left_out == ("epoch",)


# The map


def test_that_the_map_names_every_source_key_and_the_reason_of_a_drop() -> None:
    file = model("a.w", "b.w", "c.w")
    steps = (Drop(keys=("b.*",), why="no head"), Prefix(add="m."), Drop(keys=("m.c.w",)))
    assert key_map(make_plan(Recipe(steps=steps), file), file) == {
        "a.w": "m.a.w",
        "b.w": {"op": "drop", "reason": "no head"},
        "c.w": {"op": "drop"},
    }


# Module versions


def moved(plan: Plan, modules: tuple[str, ...]) -> dict[str, str]:
    """Old path of the entry that ends up under each new path."""
    places = {module: plan.modules.get(module, module) for module in modules}
    kept = {new: old for old, new in places.items() if new is not None}
    assert len(kept) == sum(new is not None for new in places.values()), "two entries under one path"
    return kept


COMPONENT = st.sampled_from(["module", "fc", "0", "modules", "module_"])
PATHS = st.lists(st.lists(COMPONENT, min_size=1, max_size=4).map(".".join), unique=True, max_size=8)


@given(PATHS, PATHS, st.booleans(), st.sampled_from(["module.", "fc.", "mod", "module"]))
def test_that_a_strip_equals_torchs_own_helper(keys: list[str], modules: list[str], wrapped: bool, prefix: str) -> None:
    keys = [f"{key}.weight" for key in keys]
    # Where one name becomes another that has the prefix too, torch's helper goes name by name and overwrites.
    for names in (keys, modules):
        assume(not any(name.startswith(prefix) and prefix + name in names for name in names))
    assume(prefix.removesuffix(".") + "." + prefix.removesuffix(".") not in modules)
    if wrapped:
        modules = ["", *modules]
    state_dict: Any = OrderedDict((key, torch.tensor(i)) for i, key in enumerate(keys))
    state_dict._metadata = OrderedDict((module, module) for module in modules)
    try:
        plan = planned(Strip(prefix=prefix, when="any"), keys=tuple(keys), modules=tuple(modules))
    except RepairError:
        # torch overwrites one of two keys that become one.
        consume_prefix_in_state_dict_if_present(state_dict, prefix)
        assert len(state_dict) < len(keys) or any(
            a != b and b.startswith(a + ".") for a in state_dict for b in state_dict
        )
        return
    consume_prefix_in_state_dict_if_present(state_dict, prefix)
    assert {target.key: target.value.entry for target in plan.targets} == {k: int(v) for k, v in state_dict.items()}
    assert moved(plan, tuple(modules)) == dict(state_dict._metadata)


def test_that_a_prefix_of_two_components_is_stripped_as_one_after_the_other() -> None:
    keys = ("module._orig_mod.fc.weight",)
    modules = ("", "module", "module._orig_mod", "module._orig_mod.fc", "module._orig_mod.act")
    at_once = planned(Strip(prefix="module._orig_mod."), keys=keys, modules=modules)
    in_turn = planned(Strip(prefix="module."), Strip(prefix="_orig_mod."), keys=keys, modules=modules)
    as_components = planned(Strip(components=("module", "_orig_mod")), keys=keys, modules=modules)
    expected = {"": "module._orig_mod", "fc": "module._orig_mod.fc", "act": "module._orig_mod.act"}
    assert moved(at_once, modules) == moved(in_turn, modules) == moved(as_components, modules) == expected


def test_that_an_inner_wrapper_gives_its_place_to_what_it_wraps() -> None:
    modules = ("", "blocks", "blocks.3", "blocks.3._orig_mod", "blocks.3._orig_mod.fc")
    plan = planned(Strip(components=("_orig_mod",)), keys=("blocks.3._orig_mod.fc.weight",), modules=modules)
    assert moved(plan, modules) == {
        "": "",
        "blocks": "blocks",
        "blocks.3": "blocks.3._orig_mod",
        "blocks.3.fc": "blocks.3._orig_mod.fc",
    }


def test_that_a_prefix_takes_the_entry_of_the_whole_with_it_and_a_strip_brings_it_back() -> None:
    modules = ("", "fc", "act")
    keys = ("fc.weight",)
    plan = planned(Prefix(add="model."), keys=keys, modules=modules)
    assert plan.modules == {"": "model", "fc": "model.fc", "act": "model.act"}
    assert planned(Prefix(add="model."), Strip(prefix="model."), keys=keys, modules=modules).modules == {}


def test_that_a_module_follows_its_keys_only_when_all_of_them_move_together() -> None:
    keys = ("enc.fc.weight", "enc.fc.bias", "enc.norm.weight")
    modules = ("", "enc", "enc.fc", "enc.norm", "enc.act", "enc.fc.drop")
    whole = planned(Rename(rules=(("enc.**", "vit.enc2.**"),)), keys=keys, modules=modules)
    assert whole.modules == {
        "enc": "vit.enc2",
        "enc.fc": "vit.enc2.fc",
        "enc.norm": "vit.enc2.norm",
        "enc.act": "vit.enc2.act",
        "enc.fc.drop": "vit.enc2.fc.drop",
    }
    part = planned(Rename(rules=(("enc.fc.weight", "head.weight"),)), keys=keys, modules=modules)
    assert part.modules == {}
    one = planned(Rename(rules=(("enc.fc.{p}", "enc.head.{p}"),)), keys=keys, modules=modules)
    assert one.modules == {"enc.fc": "enc.head", "enc.fc.drop": "enc.head.drop"}


def test_that_a_module_stays_where_its_parts_went_apart_or_its_new_path_is_taken() -> None:
    apart = Rename(rules=(("m.a.w", "n.a.w"), ("m.a.v", "k.b.v")))
    assert planned(apart, keys=("m.a.w", "m.a.v"), modules=("", "m", "m.a")).modules == {}
    merged = Rename(rules=(("a.w", "b.w"),))
    assert planned(merged, keys=("a.w", "b.v"), modules=("", "a", "b")).modules == {}


def test_that_swapped_modules_swap_their_versions() -> None:
    rules = (("a.{p}", "b.{p}"), ("b.{p}", "a.{p}"))
    plan = planned(Rename(rules=rules), keys=("a.w", "b.w"), modules=("", "a", "b"))
    assert plan.modules == {"a": "b", "b": "a"}


def test_that_a_new_form_of_a_parameter_does_not_move_its_module() -> None:
    rules = (
        ("**.weight_g", "**.parametrizations.weight.original0"),
        ("**.weight_v", "**.parametrizations.weight.original1"),
    )
    plan = planned(Rename(rules=rules), keys=("c.weight_g", "c.weight_v"), modules=("", "c"))
    assert plan.modules == {}


def test_that_a_drop_keeps_the_versions() -> None:
    plan = planned(Drop(keys=("fc.**",)), keys=("fc.weight", "a.w"), modules=("", "fc", "a"))
    assert plan.modules == {}


def test_that_an_exchanged_prefix_takes_its_modules_and_no_others() -> None:
    modules = ("", "encoder", "encoder.fc", "encoder2")
    plan = planned(ReplacePrefix(old="encoder.", new="vit."), keys=("encoder.fc.w", "encoder2.w"), modules=modules)
    assert plan.modules == {"encoder": "vit", "encoder.fc": "vit.fc"}


# Any recipe

RULES = st.lists(
    st.sampled_from([("a.{p}", "b.{p}"), ("b.{p}", "a.{p}"), ("**.0", "**.1"), ("x", "y"), (r"re:b(\d)", r"b\1\1")]),
    min_size=1,
    unique=True,
)
STEPS = st.one_of(
    st.sampled_from(["a.", "b.", "module.", "a"]).map(lambda prefix: Strip(prefix=prefix, when="any")),
    st.sampled_from(["a.", "m.", "x"]).map(lambda add: Prefix(add=add)),
    st.tuples(st.sampled_from(["a.", "b.0", "m"]), st.sampled_from(["", "b.", "c"])).map(
        lambda pair: ReplacePrefix(old=pair[0], new=pair[1])
    ),
    st.lists(
        st.sampled_from(
            [("a.{p}", "b.{p}"), ("b.{p}", "a.{p}"), ("**.0", "**.1"), ("x", "y"), (r"re:b(\d)", r"b\1\1")]
        ),
        min_size=1,
        unique=True,
    ).flatmap(
        lambda rules: st.sampled_from(["first", "chain"]).map(lambda mode: Rename(rules=tuple(rules), mode=mode))
    ),
    st.sampled_from(["a.*", "**.0", "b.**"]).flatmap(
        lambda pattern: st.sampled_from([Drop(keys=(pattern,)), Keep(keys=(pattern, "a.**"))])
    ),
)
KEYS = st.lists(
    st.lists(st.sampled_from(["a", "b", "m", "0", "1", "module", "b0"]), min_size=1, max_size=3).map(".".join),
    unique=True,
    max_size=10,
)


@given(KEYS, st.lists(STEPS, max_size=4), st.booleans())
def test_that_no_key_is_lost_or_invented(keys: list[str], steps: list[Operation], with_modules: bool) -> None:
    modules = tuple({"", *(key.rpartition(".")[0] for key in keys)}) if with_modules else ()
    try:
        plan = planned(*steps, keys=tuple(keys), modules=modules)
    except RepairError:
        assume(False)
    entries = [target.value.entry for target in plan.targets]
    assert entries == sorted(set(entries))
    assert sorted([*entries, *plan.dropped]) == list(range(len(keys)))
    assert len({target.key for target in plan.targets}) == len(entries)
    moved(plan, modules)


@given(KEYS, STEPS)
def test_that_a_preview_agrees_with_the_plan(keys: list[str], step: Operation) -> None:
    found = preview(keys, step)
    assert found.changed + found.dropped == sum(row.new != row.old for row in found.rows)
    try:
        plan = planned(step, keys=tuple(keys))
    except RepairError:
        assert found.problems
        return
    assert not found.problems
    file = model(*keys)
    changed = {key: new for key, new in key_map(plan, file).items() if new != key}
    assert {row.old: row.new for row in found.rows} == {
        key: new if isinstance(new, str) else None for key, new in changed.items()
    }


def test_that_a_preview_puts_what_is_in_the_way_first_and_says_why() -> None:
    found = preview(["a.w", "b.w", "c.x"], Rename(rules=(("c.{p}", "d.{p}"), ("b.w", "a.w"))))
    assert [(row.old, row.new, bool(row.problem)) for row in found.rows] == [
        ("a.w", "a.w", True),
        ("b.w", "a.w", True),
        ("c.x", "d.x", False),
    ]
    assert found.problems == ('"b.w" would become "a.w", which is a key already',)
    assert (found.changed, found.dropped) == (2, 0)


def test_that_a_preview_shows_shapes_after_a_recipe() -> None:
    file = model("module.fc.weight")
    found = preview_operation(Recipe(steps=(Strip(prefix="module."),)), Prefix(add="m."), file)
    assert [(row.old, row.new, row.shape) for row in found.rows] == [("fc.weight", "m.fc.weight", "2×3")]


def test_that_keys_of_empty_components_are_renamed_with_their_versions() -> None:
    plan = make_plan(Recipe(steps=(Prefix(add="x.", keys=("**",)),)), model("a.", "..", modules=["", "a", "."]))
    assert dict(plan.modules) == {"a": "x.a", ".": "x.."}

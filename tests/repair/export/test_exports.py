"""What is handed out for a loader does, carried out as that loader does it, what the recipe does."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from sdviewer.errors import UsageError
from sdviewer.repair.execution import map_of
from sdviewer.repair.export import EXPORTS, export_text, key_mapping, pre_hook, revise_keys
from sdviewer.repair.recipe import Recipe, parse_recipe
from tests.repair.rules.tables import table

HEAD = 'format = "sdviewer-recipe/1"\nname = "made for a test"\n'

WRAPPED = """
[[step]]
op = "strip"
components = ["module", "_orig_mod"]
[[step]]
op = "rename"
rules = [["**.LayerNorm.gamma", "**.LayerNorm.weight"]]
[[step]]
op = "rename"
rules = [["**.LayerNorm.beta", "**.LayerNorm.bias"]]
"""
WRAPPED_KEYS = ["module.a.LayerNorm.gamma", "module.LayerNorm.beta", "module._orig_mod.fc.weight", "c.module"]

COUNTED = """
[[step]]
op = "rename"
rules = [["layer{s}.{b}.conv{c}.{p}", "stages.{s-1}.{b}.layer.{c-1}.{p}"], ["fc.{p}", "head.{p}"]]
"""
COUNTED_KEYS = [f"layer{s}.{b}.conv{c}.weight" for s in (1, 2, 12) for b in (0, 11) for c in (1, 2)] + ["fc.bias"]

PREFIXES = """
[[step]]
op = "strip"
prefix = "net."
[[step]]
op = "replace_prefix"
from = "enc."
to = 'a\\1.'
[[step]]
op = "prefix"
add = "model."
"""
PREFIX_KEYS = ["net.enc.w", "net.dec.w", "net.net.w"]

SWAPPED = """
[[step]]
op = "rename"
rules = [["layers.0.{p}", "layers.1.{p}"], ["layers.1.{p}", "layers.0.{p}"]]
"""
SWAPPED_KEYS = ["layers.0.w", "layers.1.w", "layers.2.w"]

REPLACED = """
[[step]]
op = "replace"
find = "attn."
with = "attention."
"""
REPLACED_KEYS = ["attn.attn.w", "mlp.w"]

RECIPES = {
    "wrapped": (WRAPPED, WRAPPED_KEYS),
    "counted": (COUNTED, COUNTED_KEYS),
    "prefixes": (PREFIXES, PREFIX_KEYS),
    "replaced": (REPLACED, REPLACED_KEYS),
}


def recipe(text: str) -> Recipe:
    return parse_recipe(HEAD + text)


def wanted(text: str, keys: list[str]) -> dict[str, Any]:
    return dict(map_of(table(keys), recipe(text).steps))


def by_transformers_4(mapping: dict[str, str], key: str) -> str:
    for pattern, replacement in mapping.items():
        new, found = re.subn(pattern, replacement, key)
        if found > 0:
            return new
    return key


def by_transformers_5(mapping: dict[str, str], key: str) -> str:
    for pattern, replacement in mapping.items():
        key = re.sub(pattern, replacement, key, count=1)
    return key


def by_mmengine(pairs: list[tuple[str, str]], key: str) -> str:
    for pattern, replacement in pairs:
        key = re.sub(pattern, replacement, key)
    return key


def by_hook(text: str, keys: list[str], prefix: str = "") -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(text, names)
    state_dict = {prefix + key: key for key in keys}
    names["repair"](None, state_dict, prefix, {}, True, [], [], [])
    return {key: name.removeprefix(prefix) for name, key in state_dict.items()}


@pytest.mark.parametrize("name", RECIPES)
def test_that_transformers_renames_as_the_recipe_does(name: str) -> None:
    text, keys = RECIPES[name]
    mapping = key_mapping(recipe(text), keys)
    for load in (by_transformers_4, by_transformers_5):
        assert {key: load(mapping, key) for key in keys} == wanted(text, keys)


@pytest.mark.parametrize("name", RECIPES)
def test_that_mmengine_renames_as_the_recipe_does(name: str) -> None:
    text, keys = RECIPES[name]
    pairs = revise_keys(recipe(text), keys)
    assert {key: by_mmengine(pairs, key) for key in keys} == wanted(text, keys)


@pytest.mark.parametrize("prefix", ["", "part."])
@pytest.mark.parametrize(("text", "keys"), [*RECIPES.values(), (SWAPPED, SWAPPED_KEYS)])
def test_that_a_hook_renames_as_the_recipe_does(text: str, keys: list[str], prefix: str) -> None:
    assert by_hook(pre_hook(recipe(text), keys), keys, prefix) == wanted(text, keys)
    assert by_hook(pre_hook(recipe(text)), keys, prefix) == wanted(text, keys)


def test_that_torch_loads_by_the_hook() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    drop = '[[step]]\nop = "drop"\nkeys = ["old.**"]\n[[step]]\nop = "rename"\nrules = [["fc{i}.{p}", "{i-1}.{p}"]]\n'
    names: dict[str, Any] = {}
    exec(pre_hook(recipe(drop)), names)
    model.register_load_state_dict_pre_hook(names["repair"])
    state_dict = {
        f"fc{i}.{p}": torch.full((2, 2) if p == "weight" else (2,), float(i))
        for i in (1, 2)
        for p in ("weight", "bias")
    }
    assert str(model.load_state_dict({**state_dict, "old.x": torch.zeros(1)})) == "<All keys matched successfully>"
    assert model[1].weight[0, 0] == 2.0


def test_that_a_hook_stops_where_two_keys_would_become_one() -> None:
    names: dict[str, Any] = {}
    exec(pre_hook(recipe('[[step]]\nop = "strip"\nprefix = "a."\nwhen = "any"\n')), names)
    with pytest.raises(RuntimeError, match="two keys"):
        names["repair"](None, {"a.w": 1, "w": 2}, "")


def test_that_a_swap_is_no_mapping_where_one_pattern_follows_the_other() -> None:
    for export in (key_mapping, revise_keys):
        with pytest.raises(UsageError, match="step 1 "):
            export(recipe(SWAPPED), SWAPPED_KEYS)


def test_that_arithmetic_needs_the_keys() -> None:
    with pytest.raises(UsageError, match=r"step 1 .* cannot be said as a key_mapping") as caught:
        key_mapping(recipe(COUNTED))
    assert "checkpoint" in caught.value.remedy


@pytest.mark.parametrize("name", [export.name for export in EXPORTS])
@pytest.mark.parametrize("step", ['op = "cast"\ndtype = "float16"', 'op = "tie"\nfrom = "fc.weight"\nto = ["b"]'])
def test_that_a_step_that_does_more_than_rename_is_named(name: str, step: str) -> None:
    first = '[[step]]\nop = "prefix"\nadd = "a."\n[[step]]\n'
    with pytest.raises(UsageError, match=r"step 2 \("):
        export_text(name, recipe(first + step), ["fc.weight"])


def test_that_only_a_hook_can_drop_and_only_mmengine_unwraps() -> None:
    drop = recipe('[[step]]\nop = "drop"\nkeys = ["a.**"]\n')
    unwrap = recipe('[[step]]\nop = "unwrap"\npath = "state_dict"\n[[step]]\nop = "strip"\nprefix = "m."\n')
    assert by_hook(pre_hook(drop), ["a.w", "b.w"]) == {"b.w": "b.w"}
    assert revise_keys(unwrap, ["m.w"]) == [(r"^m\.", "")]
    for export, one in ((key_mapping, drop), (revise_keys, drop), (key_mapping, unwrap)):
        with pytest.raises(UsageError, match="step 1"):
            export(one, ["a.w", "m.w"])


def test_that_a_step_for_some_keys_is_said_by_their_own_rules_or_not_at_all() -> None:
    some = recipe('[[step]]\nop = "prefix"\nadd = "m."\nkeys = ["a.**"]\n')
    keys = ["a.w", "b.w"]
    assert {key: by_mmengine(revise_keys(some, keys), key) for key in keys} == {"a.w": "m.a.w", "b.w": "b.w"}
    with pytest.raises(UsageError, match="step 1"):
        revise_keys(some)


def test_that_names_cannot_leave_the_text_they_stand_in() -> None:
    text = 'format = "sdviewer-recipe/1"\nname = "x\\nimport os"\n[[step]]\nop = "rename"\n'
    text += "rules = [['a\"', 'b\"]; import os']]\n"
    for export in EXPORTS:
        written = export_text(export.name, parse_recipe(text), ['a"'])
        names: dict[str, Any] = {}
        exec(written, names)
        assert "os" not in names


def test_that_an_unknown_loader_is_an_error_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no loader") as caught:
        export_text("keras", recipe(WRAPPED))
    assert "key_mapping, revise_keys, pre_hook" in caught.value.remedy

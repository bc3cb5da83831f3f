"""Runs every example of `docs/recipe.md`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sdviewer.errors import RepairError
from sdviewer.repair.patterns import compile_pattern
from sdviewer.repair.planning import key_map, make_plan
from sdviewer.repair.recipe import FORMAT, parse_recipe
from tests.repair.made import model

TEXT = (Path(__file__).parents[2] / "docs" / "recipe.md").read_text("utf-8")
EXAMPLES = re.findall(r"```toml recipe\n(.*?)```(?:\n\n```keys\n(.*?)```)?", TEXT, re.DOTALL)


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def said(new: str | dict[str, Any]) -> str:
    """What became of a key as the examples have it: `dropped`, `split: a, b`."""
    if isinstance(new, str):
        return new
    to = new.get("to", [])
    return "dropped" if new["op"] == "drop" else f"{new['op']}: {to if isinstance(to, str) else ', '.join(to)}"


@pytest.mark.parametrize(("recipe", "keys"), EXAMPLES)
def test_that_the_examples_of_the_recipe_doc_do_what_it_says(recipe: str, keys: str) -> None:
    text = recipe if "format = " in recipe.splitlines()[0] else f'format = "{FORMAT}"\n{recipe}'
    parsed = parse_recipe(text)
    pairs = [line.partition(" -> ")[::2] for line in keys.splitlines()]
    checkpoint = model(*[old for old, _ in pairs])
    failure = next((new.removeprefix("error: ") for _, new in pairs if new.startswith("error: ")), None)
    if failure is not None:
        with pytest.raises(RepairError) as caught:
            make_plan(parsed, checkpoint)
        assert failure in str(caught.value)
    elif pairs:
        found = key_map(make_plan(parsed, checkpoint), checkpoint)
        assert {old: said(new) for old, new in found.items()} == dict(pairs)


def test_that_the_doc_has_an_example_for_every_operation() -> None:
    assert len(EXAMPLES) >= 20
    for op in ("split", "fuse", "stack", "unstack", "transpose", "add"):
        assert any(f'op = "{op}"' in recipe for recipe, _ in EXAMPLES), op
    for op in ("strip", "prefix", "replace_prefix", "rename", "replace", "drop", "keep", "drop_objects", "extract"):
        assert any(f'op = "{op}"' in recipe for recipe, _ in EXAMPLES), op


def test_that_the_pattern_table_is_true() -> None:
    table = TEXT.split("## Patterns")[1].split("|---|---|---|---|---|\n")[1].split("\n\n")[0]
    checked = 0
    for _, _, pattern, matches, misses in rows(table):
        compiled = compile_pattern(pattern.strip("`"))
        for key in re.findall(r"`([^`]+)`", matches):
            assert compiled.matches(key), (pattern, key)
            checked += 1
        for key in re.findall(r"`([^`]+)`", misses):
            assert not compiled.matches(key), (pattern, key)
    assert checked >= 13

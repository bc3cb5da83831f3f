"""The regular expressions that programs carry along say of every pattern and key what `repair.patterns` says."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.patterns import compile_pattern, compile_rule
from sdviewer.repair.script.parts.failures import RecipeError
from sdviewer.repair.script.parts.keys import Counting, index, renamer
from sdviewer.repair.script.regexes import Code, means, regex, rule_code

WORDS = st.sampled_from(["a", "b", "ab", "0", "1", "12", "a1", "b0a", "aa", ""])
KEYS = st.lists(st.lists(WORDS, min_size=1, max_size=6).map(".".join), min_size=1, max_size=5)
TOKENS = st.sampled_from(
    ["a", "b", "1", "*", "**", "{i}", "{j}", "{r...}", "{i+1}", "{i//2}", "{n-1-i}", "{i%3}", "{2}"]
)
TEMPLATES = st.lists(st.lists(TOKENS, min_size=1, max_size=3).map("".join), min_size=1, max_size=5).map(".".join)


def said(pattern: str, result: str, keys: list[str]) -> Callable[[str], str | None]:
    """The renamer that a program has of a rule."""
    code = rule_code(compile_rule(pattern, result))
    names = {"Counting": Counting, "index": index}
    found = eval(code.result, names) if isinstance(code.result, Code) else code.result
    return renamer(code.pattern, found, keys)


@given(TEMPLATES, KEYS)
def test_that_a_program_matches_what_a_recipe_matches(template: str, keys: list[str]) -> None:
    try:
        wanted = compile_pattern(template)
    except UsageError:
        return
    found = eval(means([template]), {"re": re})
    for key in keys:
        assert bool(found(key)) == wanted.matches(key), (template, key)
        assert bool(re.search(regex(template), key)) == wanted.matches(key), (template, key)


@given(TEMPLATES, TEMPLATES, KEYS)
@example("**.a.{i}.*", "**.{n-1-i}.*", ["a.1.x", "b.a.0.x", "b.b.a.7.y"])
@example("a.**", "**", ["a.b.c"])
@example("**.gamma", "x.**", ["gamma", "a.gamma"])
@example("{a...}.blocks.{b...}", "{b}.{a}", ["x.blocks.y.blocks.z"])
def test_that_a_program_renames_as_a_recipe_renames(pattern: str, result: str, keys: list[str]) -> None:
    try:
        rename = compile_rule(pattern, result).renamer(keys)
    except UsageError:
        return
    found = said(pattern, result, keys)
    for key in keys:
        try:
            wanted = rename(key)
        except RepairError:
            with pytest.raises((RecipeError, ZeroDivisionError)):
                found(key)
        else:
            assert found(key) == wanted, (pattern, result, key)


@pytest.mark.parametrize(
    ("pattern", "result"),
    [
        (r"re:^blocks\.(\d+)\.mlp\.fc([12])\.", r"layer.\1.mlp.\2."),
        (r"re.full:(?P<a>\w+)\.(\w+)", r"\2.\g<a>"),
        (r"re.full:(?ix) (a) \. [B]  # the two", r"\1\1"),
        (r"re:(?i)A", r"b\\"),
        ("re:a", ""),
    ],
)
def test_that_regular_expressions_replace_the_first_match(pattern: str, result: str) -> None:
    keys = ["blocks.3.mlp.fc1.weight", "a.b", "a.a", "x", "A.a\n"]
    wanted = compile_rule(pattern, result).renamer(keys)
    assert list(map(said(pattern, result, keys), keys)) == list(map(wanted, keys))


def test_that_long_indexes_are_none() -> None:
    for digits in (18, 19):
        key = "a." + "9" * digits
        rule = ("a.{i}", "a.{i//10}")
        assert said(*rule, [key])(key) == compile_rule(*rule).renamer([key])(key)

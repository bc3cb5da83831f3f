from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdviewer.errors import UsageError
from sdviewer.repair.operations import (
    OPERATIONS,
    Drop,
    Expect,
    Operation,
    Rename,
    operation_from_step,
)
from sdviewer.repair.recipe import FORMAT, Goal, Recipe, SaveOptions, Source, parse_recipe
from tests.repair.operation_values import OPERATION_VALUES, PATTERNS, TEXTS

RECIPES = st.builds(
    Recipe,
    name=st.just("") | TEXTS,
    source=st.builds(
        Source,
        state_dict=st.just("auto") | st.just("") | TEXTS,
        require=st.just(()) | PATTERNS,
        forbid=st.just(()) | PATTERNS,
        tensors=st.none() | st.integers(0, 2**40),
    ),
    steps=st.lists(st.one_of(*OPERATION_VALUES.values()), max_size=3).map(tuple),
    target=st.builds(Goal, keys=st.just("") | TEXTS, allow_missing=st.just(()) | PATTERNS),
    save=st.builds(
        SaveOptions,
        format=st.just("") | TEXTS,
        shared=st.sampled_from(["", "clone", "alias-metadata"]),
        max_shard_size=st.sampled_from(["", "5GB", "512 MiB"]),
    ),
)


@given(RECIPES)
def test_that_a_recipe_comes_back_from_its_text(recipe: Recipe) -> None:
    text = recipe.to_text()
    assert parse_recipe(text) == recipe
    assert parse_recipe(text).to_text() == text
    text.encode("utf-8")


class TestOperationContract:
    """What every registered operation keeps to."""

    @pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.op)
    def test_that_a_step_comes_back_from_its_table(self, operation: type[Operation]) -> None:
        @given(OPERATION_VALUES[operation])
        def check(value: Operation) -> None:
            assert operation_from_step(value.to_step()) == value
            assert value.to_step()["op"] == operation.op
            assert value.label[0].isupper()
            assert value.label.isprintable()

        check()

    @pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.op)
    def test_that_unknown_fields_are_refused(self, operation: type[Operation]) -> None:
        @given(OPERATION_VALUES[operation])
        def check(value: Operation) -> None:
            with pytest.raises(UsageError, match="unknown field"):
                operation_from_step({**value.to_step(), "frobnicate": 1})

        check()

    @pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.op)
    def test_that_every_key_gets_an_answer_and_the_input_stays(self, operation: type[Operation]) -> None:
        @given(OPERATION_VALUES[operation], st.lists(TEXTS))
        def check(value: Operation, keys: list[str]) -> None:
            before = list(keys)
            changes = value.plan(keys)
            assert len(changes.new_keys) == len(keys)
            assert 0 <= changes.matched <= len(keys)
            assert keys == before
            assert value.plan([]).matched == 0

        check()


def test_that_json_is_a_recipe_too() -> None:
    steps = [{"op": "rename", "rules": [["a", "\ud800"]], "expect": {"matched": 1}}, {"op": "drop", "keys": ["b"]}]
    text = json.dumps({"format": FORMAT, "step": steps})
    assert parse_recipe(text).steps == (
        Rename(rules=(("a", "\ud800"),), expect=Expect(matched=1)),
        Drop(keys=("b",)),
    )


def test_that_regular_expressions_are_written_without_doubled_backslashes() -> None:
    text = Recipe(steps=(Rename(rules=((r"re:^a\.(\d+)", r"b.\1"),)),)).to_text()
    assert r"['re:^a\.(\d+)', 'b.\1']" in text


def test_that_text_no_toml_holds_is_written_as_python_does() -> None:
    text = Recipe(steps=(Drop(keys=("a\0", "\ud800")),)).to_text()
    assert r"""[{repr = '"a\x00"'}, {repr = '"\ud800"'}]""" in text


HEAD = f'format = "{FORMAT}"\n'
STEP = HEAD + "[[step]]\nop = "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it has no `format`"),
        ("weights", "no TOML"),
        ('format = "sdviewer-recipe/2"', "another version"),
        ('format = "cookbook"', '"cookbook"'),
        ('{"format": ', "no JSON"),
        ('{"format": "x", "format": "y"}', "stands twice"),
        ('{"a":' * 100_000, "nested too deeply"),
        (HEAD + 'name = "a"\nsteps = []', "line 3, the recipe: unknown field \"steps\". Did you mean `step`?"),
        (HEAD + "step = 3", "line 2, the recipe: `step` must be a list of tables"),
        (HEAD + '\n[[step]]\nprefix = "a"', "line 3, step 1: `op` is missing"),
        (STEP + '"strip"\nprefx = "a"', 'line 4, step 1 (strip): unknown field "prefx". Did you mean `prefix`?'),
        (STEP + '"drop"\nkeys = ["a"]\n[[step]]\nop = "renam"', "line 6, step 2 (renam): unknown"),
        (STEP + '"renam"', "Did you mean rename?"),
        (STEP + '"rename"\nrules = [["a.{", "b"]]', 'step 1 (rename): "a.{", position 3'),
        (STEP + '"rename"\nrules = [["", "b"]]', "a pattern is empty"),
        (STEP + '"rename"\nrules = [["a"]]', "list of [pattern, result]"),
        (STEP + '"strip"\nprefix = ""', "step 1 (strip): strip needs"),
        (STEP + '"prefix"\nadd = ""', "empty prefix"),
        (STEP + '"replace_prefix"\nfrom = ""\nto = "a."', "empty prefix"),
        (STEP + '"drop"\nkeys = "a"', "line 4, step 1 (drop): `keys` must be a list of texts"),
        (STEP + '"prefix"\nadd = "a."\nkeys = []', "line 5, step 1 (prefix): `keys` is an empty list"),
        (STEP + '"prefix"\nadd = "a."\nenabled = 1', "line 5, step 1 (prefix): `enabled` must be true"),
        (STEP + '"prefix"\nadd = "a."\nexpect = { mached = 1 }', "Did you mean `matched`?"),
        (STEP + '"strip"\nprefix = "a."\nwhen = "never"', '"all" or "any"'),
        (STEP + '"prefix"\nadd = { repr = "1" }', "repr holds no Python string"),
        (HEAD + '[source]\nrequire = ["a}"]', "line 3, [source]: "),
        (HEAD + '[save]\nmax_shard_size = "big"', 'line 3, [save]: "big" is no size'),
    ],
)  # fmt: skip
def test_that_a_text_that_is_no_recipe_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_recipe(text, path="fix.toml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("fix.toml: ")
    assert caught.value.exit_code == 2


def test_that_a_shard_size_is_read_in_bytes() -> None:
    assert SaveOptions(max_shard_size="5GB").max_shard_bytes == 5_000_000_000
    assert SaveOptions(max_shard_size="2 GiB").max_shard_bytes == 2 * 2**30
    assert SaveOptions().max_shard_bytes is None

"""What a step `take` plans, on names, shapes and dtypes; and the shortest step that takes some keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdviewer.core.checkpoint import Checkpoint, StorageInfo
from sdviewer.errors import KeyCollision, NoMatch, OpenError, RepairError, UsageError
from sdviewer.repair.operations import Drop, Operation, Prefix, Rename, Take, Tie
from sdviewer.repair.operations.operation import selection
from sdviewer.repair.other_files import anchored, beside
from sdviewer.repair.plan import Computed, Kept, Plan, sources
from sdviewer.repair.planning import Preview, key_map, make_plan, preview_operation
from sdviewer.repair.recipe import Recipe, parse_recipe
from sdviewer.repair.taking import take_step
from sdviewer.repair.transforms import Taken
from tests.repair.made import checkpoint, model


def other(*keys: str, **changed: Mapping[str, Any]) -> Checkpoint:
    """Another file: its keys, and what is otherwise of the tensors of some of them (dots as `__`)."""
    made = model(*keys)
    fields = {name.replace("__", "."): more for name, more in changed.items()}
    tensors = [info._replace(**fields.get(info.key or "", {})) for info in made.tensors]
    return replace(made, path="/data/b.pth", tensors=tensors)


def planned(here: Checkpoint, there: Checkpoint, *steps: Operation) -> Plan:
    """The plan of a recipe that takes from a file `b.pth`."""
    return make_plan(Recipe(steps=steps), here, others={"b.pth": there}.__getitem__)


def keys_of(plan: Plan) -> list[str]:
    return [target.key for target in plan.targets]


def taken(plan: Plan) -> dict[str, str]:
    """The keys that are taken, and the keys there."""
    return {
        target.key: target.value.transform.key
        for target in plan.targets
        if isinstance(target.value, Computed) and isinstance(target.value.transform, Taken)
    }


HERE = ("fc.weight", "fc.bias", "head.weight")


def test_that_a_tensor_that_is_here_is_replaced_in_its_place_with_the_shape_and_dtype_there() -> None:
    there = other("head.weight", "fc.bias", fc__bias={"shape": (7,), "dtype": "float16"})
    plan = planned(model(*HERE), there, Take(path="b.pth"))

    assert keys_of(plan) == [*HERE]
    assert taken(plan) == {"fc.bias": "fc.bias", "head.weight": "head.weight"}
    assert plan.targets[0].value == Kept(0)
    value = plan.targets[1].value
    assert isinstance(value, Computed)
    assert (value.shape, value.dtype) == ((7,), "float16")
    assert list(sources(value)) == [1]
    assert list(sources(value, read=True)) == []
    assert plan.dropped == ()
    assert plan.others == {"/data/b.pth": there}
    assert (plan.steps[0].matched, plan.steps[0].changed) == (2, 2)
    (warning,) = plan.warnings
    assert (warning.code, warning.keys) == ("take_shape", ("fc.bias",))
    assert '"fc.bias" (2×3) is 7 in "b.pth"' in warning.message


def test_that_what_is_not_here_stands_behind_the_key_before_it_there_and_else_at_the_end() -> None:
    there = other("new.first", "fc.weight", "fc.scale", "fc.shift", "gone", "gone.b", "head.weight", "head.bias")
    plan = planned(
        model(*HERE), there, Take(path="b.pth", keys=("new.*", "fc.s*", "gone.b", "head.bias")), Prefix(add="m.")
    )

    assert keys_of(plan) == [
        f"m.{key}"
        for key in (
            *("fc.weight", "fc.scale", "fc.shift", "fc.bias"),
            *("head.weight", "head.bias", "new.first", "gone.b"),
        )
    ]


def test_that_each_tensor_that_is_taken_counts_wherever_it_is_put() -> None:
    plan = planned(model("a"), other("a", "a2", "a3"), Take(path="b.pth"))
    assert (plan.steps[0].matched, plan.steps[0].changed) == (3, 3)


def test_that_rules_say_which_key_a_tensor_has_here() -> None:
    there = other("module.fc.weight", "module.fc.scale", "other.fc.bias")
    rules = (("module.{rest...}", "{rest}"), ("nothing", "x"))
    plan = planned(model(*HERE), there, Take(path="b.pth", to=rules, keys=("module.**", "gone.**")))

    assert taken(plan) == {"fc.weight": "module.fc.weight", "fc.scale": "module.fc.scale"}
    assert keys_of(plan) == ["fc.weight", "fc.scale", "fc.bias", "head.weight"]
    assert plan.steps[0].dead_rules == ('"gone.**"', "nothing -> x")
    assert key_map(plan, model(*HERE)) == {
        "fc.weight": {"op": "take", "to": "fc.weight", "file": "/data/b.pth", "key": "module.fc.weight"},
        "fc.bias": "fc.bias",
        "head.weight": "head.weight",
    }


def test_that_steps_before_and_after_see_what_is_taken() -> None:
    there = other("x.weight", "x.bias")
    steps = (
        Rename(rules=(("fc.*", "x.*"),)),
        Take(path="b.pth", keys=("x.weight",)),
        Drop(keys=("x.bias",)),
        Tie(source="x.weight", to=("y.weight",)),
    )
    plan = planned(model(*HERE), there, *steps)

    assert keys_of(plan) == ["x.weight", "y.weight", "head.weight"]
    assert plan.targets[0].value == plan.targets[1].value
    assert plan.dropped == (1,)


def test_that_what_is_one_tensor_there_is_one_here_whichever_step_takes_it() -> None:
    there = checkpoint(((), "model", ("a", "b", "c")), storages={"a": "tied", "b": "tied"})
    there = replace(there, path="/data/b.pth", tensors=[*there.tensors])
    alone = planned(model("x"), there, Take(path="b.pth", keys=("a", "c")), Take(path="b.pth", keys=("b",)))

    values = {target.key: target.value for target in alone.targets}
    assert values["a"] == values["b"] != values["c"]


@pytest.mark.parametrize(
    ("there", "step", "error", "said"),
    [
        (other("a"), Take(path="b.pth", keys=("b.**",)), NoMatch, 'nothing to take: "b.pth" has no tensor "b.**"'),
        (other("a", "b"), Take(path="b.pth", to=(("*", "x"),)), KeyCollision, '"b": it and "a" are both "x" here'),
        (other("a", "a"), Take(path="b.pth"), KeyCollision, '"a": it stands there twice'),
        (other("fc"), Take(path="b.pth"), KeyCollision, "under which"),
        (other("a"), Take(path="b.pth", to=(("re:a", ""),)), RepairError, "an empty key"),
        (other("a{i}"), Take(path="b.pth", to=(("re:a.*", "b"),)), None, ""),
        (other("a", a={"kind": "quantized"}), Take(path="b.pth"), RepairError, 'in "b.pth" it is a quantized tensor'),
        (other("a", a={"kind": "sparse", "storage": None}), Take(path="b.pth"), RepairError, "it is a sparse tensor"),
        (other("a", a={"kind": "meta", "storage": None}), Take(path="b.pth"), RepairError, "it is a meta tensor"),
        (other("a", a={"unreadable": "cut off"}), Take(path="b.pth"), RepairError, "it cannot be read: cut off"),
        (other("a", a={"dtype": "q4_k"}), Take(path="b.pth"), RepairError, "a type that only its container knows"),
        (other("a", a={"dtype": "f6_e2m3"}), Take(path="b.pth"), RepairError, "a type that torch lacks, f6_e2m3"),
        (other("a", a={"shape": (1,) * 65}), Take(path="b.pth"), RepairError, "65 dimensions"),
        (other("a", "b", b={"dtype": "q4_k"}), Take(path="b.pth", keys=("a",)), None, ""),
    ],
)
def test_that_what_cannot_be_taken_is_refused_in_words(
    there: Checkpoint, step: Take, error: type[RepairError] | None, said: str
) -> None:
    if error is None:
        assert len(taken(planned(model(*HERE), there, step))) == 1
        return
    with pytest.raises(error) as caught:
        planned(model(*HERE), there, step)
    assert said in str(caught.value)
    assert "step 1 (Take" in str(caught.value)


def test_that_a_tensor_that_repeats_its_elements_without_end_is_not_written_out() -> None:
    there = other("a", a={"shape": (1 << 20, 1 << 20), "nbytes": 1 << 42, "stride": (0, 0)})
    there = replace(there, storages={str(there.tensors[0].storage): StorageInfo("a", 4, 4, 1)})
    with pytest.raises(RepairError, match="it repeats 4 B until they are 4 TiB"):
        planned(model(*HERE), there, Take(path="b.pth"))


def test_that_a_tensor_takes_the_place_of_a_tensor_only() -> None:
    here = model("a", "step")
    here = replace(here, state_dicts=(replace(here.state_dicts[0], tensor_of=(0, -1)),))
    with pytest.raises(RepairError, match='cannot take "step": here it is no tensor'):
        planned(here, other("step"), Take(path="b.pth"))
    with pytest.raises(NoMatch, match="nothing left to put it into"):
        planned(model("a"), other("a"), Drop(keys=("**",)), Take(path="b.pth"))


def test_that_the_state_dict_there_is_chosen_as_it_is_here() -> None:
    there = checkpoint((("model",), "model", ("a",)), (("ema",), "ema", ("b",)), (("opt",), "optimizer", ("c",)))
    there = replace(there, path="/data/b.pth")
    assert taken(planned(model("x"), there, Take(path="b.pth"))) == {"a": "a"}
    assert taken(planned(model("x"), there, Take(path="b.pth", state_dict="ema"))) == {"b": "b"}
    with pytest.raises(RepairError, match="it is an optimizer"):
        planned(model("x"), there, Take(path="b.pth", state_dict="opt"))
    with pytest.raises(UsageError) as caught:
        planned(model("x"), there, Take(path="b.pth", state_dict="nowhere"))
    assert caught.value.path == there.path
    assert '"ema" (ema, 1 tensor)' in caught.value.remedy
    assert 'step 1 (Take all tensors from "b.pth")' in caught.value.message


def test_that_a_file_that_cannot_be_opened_is_named_with_the_step() -> None:
    def missing(path: str) -> Checkpoint:
        raise OpenError("there is no such file", path=path, code="not_found")

    with pytest.raises(OpenError) as caught:
        make_plan(Recipe(steps=(Take(path="b.pth"),)), model("x"), others=missing)
    assert str(caught.value) == 'b.pth: step 1 (Take all tensors from "b.pth"): there is no such file.'
    with pytest.raises(UsageError, match="no other file can be opened here"):
        make_plan(Recipe(steps=(Take(path="b.pth"),)), model("x"))
    assert make_plan(Recipe(steps=(Take(path="b.pth", enabled=False),)), model("x")).others == {}


def test_that_a_preview_shows_what_is_replaced_and_what_is_added() -> None:
    def look(step: Take) -> Preview:
        return preview_operation(Recipe(), step, model(*HERE), others={"b.pth": there}.__getitem__)

    there = other("fc.weight", "fc.bias", "new", fc__bias={"shape": (7,), "dtype": "float16"})
    found = look(Take(path="b.pth", keys=("fc.*", "new")))
    assert [(row.old, row.new, row.shape) for row in found.rows] == [
        ("fc.weight", "fc.weight", "2×3 float32"),
        ("fc.bias", "fc.bias", "2×3 float32 → 7 float16"),
        ("", "new", "2×3 float32"),
    ]
    assert (found.changed, found.dropped, found.problems) == (3, 0, ())
    assert look(Take(path="b.pth", keys=("gone",))).problems[0].startswith("nothing to take")


def test_that_paths_follow_the_recipe(tmp_path: Any) -> None:
    text = 'format = "sdviewer-recipe/1"\n[[step]]\nop = "take"\nfrom = "sub/b.pth"\n[[step]]\nop = "clone"\n'
    recipe = anchored(parse_recipe(text), str(tmp_path))

    def path_of(recipe: Recipe) -> str:
        return str(recipe.steps[0].to_step()["from"])

    assert path_of(recipe) == str(tmp_path / "sub" / "b.pth")
    assert anchored(recipe, "/elsewhere") == recipe
    assert path_of(beside(recipe, str(tmp_path))) == "sub/b.pth"
    assert path_of(beside(recipe, str(tmp_path / "sub"))) == "b.pth"
    assert path_of(beside(recipe, str(tmp_path / "su"))) == path_of(recipe)
    assert anchored(beside(recipe, str(tmp_path)), str(tmp_path)) == recipe


# The shortest step


def carried_out(step: Take, keys: Sequence[str]) -> dict[str, str]:
    """Key there -> key here, of what a step takes of a file with these keys."""
    chosen: Callable[[str], bool] = selection(step.keys) if step.keys else lambda key: True
    meant = [key for key in keys if chosen(key)]
    new = Rename(rules=step.to).change(keys).new_keys if step.to else keys
    return {key: str(name) for key, name in zip(keys, new, strict=True) if key in meant}


THERE = [f"module.blocks.{i}.{part}.{last}" for i in range(12) for part in ("attn", "mlp") for last in ("w", "b")]
THERE += ["module.head.w", "module.blocks.x.mlp.w"]


@pytest.mark.parametrize(
    ("chosen", "patterns"),
    [
        (THERE, []),
        (THERE[:4], ["module.blocks.0.**"]),
        (["module.head.w"], ["module.head.**"]),
        ([THERE[1]], [THERE[1]]),
        ([key for key in THERE if key.endswith(".b")], ["module.blocks.*.attn.b", "module.blocks.*.mlp.b"]),
        ([key for key in THERE if key.endswith("attn.w")], ["module.blocks.*.attn.w"]),
    ],
)
def test_that_a_step_names_modules_and_families_where_all_of_them_is_taken(
    chosen: list[str], patterns: list[str]
) -> None:
    step = take_step([(key, key) for key in chosen], "b.pth", THERE)
    assert list(step.keys) == patterns
    assert step.to == ()


def test_that_a_pattern_that_means_more_than_what_is_chosen_is_not_used() -> None:
    chosen = [f"module.blocks.{i}.mlp.w" for i in range(12)]
    assert "module.blocks.x.mlp.w" in THERE
    step = take_step([(key, key) for key in chosen], "b.pth", THERE)
    assert carried_out(step, THERE) == {key: key for key in chosen}
    assert list(step.keys) == chosen


def test_that_another_prefix_is_one_rule_and_a_pair_made_by_hand_another() -> None:
    pairs: list[tuple[str | None, str]] = [(key.removeprefix("module."), key) for key in THERE[:8]]
    step = take_step([*pairs, ("classifier.w", "module.head.w"), (None, "module.blocks.x.mlp.w")], "b.pth", THERE)
    assert step.to == (("module.head.w", "classifier.w"), ("module.**", "**"))
    assert carried_out(step, THERE) == {
        **{key: new for new, key in pairs},
        "module.head.w": "classifier.w",
        "module.blocks.x.mlp.w": "blocks.x.mlp.w",
    }
    step = take_step([("classifier.w", "module.head.w"), ("a.w", "a.w")], "b.pth", [*THERE, "a.w"], "ema")
    assert step == Take(
        path="b.pth",
        state_dict="ema",
        keys=("module.head.**", "a.**"),
        to=(("module.head.w", "classifier.w"),),
    )


def test_that_nothing_and_too_much_are_refused() -> None:
    with pytest.raises(NoMatch):
        take_step([], "b.pth", THERE)
    keys = [f"layer{'x' * n}.w" for n in range(2100)] + [f"layer{'x' * n}.b" for n in range(2100)]
    with pytest.raises(UsageError, match="more than 2,000"):
        take_step([(key, key) for key in keys if key.endswith(".w")], "b.pth", keys)


NAMES = st.lists(st.sampled_from(["a", "b", "1", "2", "10", "w*", "{i}", "re:", "x"]), min_size=1, max_size=4).map(
    ".".join
)


@given(st.lists(NAMES, min_size=1, max_size=20, unique=True), st.data())
def test_that_a_step_takes_exactly_the_chosen_keys_under_the_keys_wanted(keys: list[str], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(keys), min_size=1, unique=True))
    prefix = data.draw(st.sampled_from(["", "m.", "{n}."]))
    moved = [data.draw(st.sampled_from([prefix + key, prefix + key, key, "by.hand"])) for key in chosen]
    step = take_step(list(zip(moved, chosen, strict=True)), "b.pth", keys)
    assert carried_out(step, keys) == dict(zip(chosen, moved, strict=True))
    assert Take.op in Recipe(steps=(step,)).to_text()
    assert parse_recipe(Recipe(steps=(step,)).to_text()).steps == (step,)

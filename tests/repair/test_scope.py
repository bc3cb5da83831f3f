from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdviewer.errors import UsageError
from sdviewer.repair.marks import mark
from sdviewer.repair.operations import Drop, Operation, Rename, Replace, Strip, Take
from sdviewer.repair.scope import below, restricted, without

KEYS = ["a.w", "a.b.w", "a{0}.w", "b.w", "b.c", "a.w\n"]


@pytest.mark.parametrize(
    "keys", [(), ("a.**",), ("re:w$",), ("re:(?i)^A",), ("re.full:.*w",), ("a.w", "b.w"), ("{x}.w",)]
)
def test_that_skipped_keys_stay_and_all_others_are_meant_as_before(keys: tuple[str, ...]) -> None:
    step = Replace(find="w", new="v", keys=keys)
    before = step.plan(KEYS).new_keys
    skipped = {"a.w"}
    after = without(step, skipped).plan(KEYS).new_keys
    assert list(after) == [old if old in skipped else new for old, new in zip(KEYS, before, strict=True)]


def test_that_a_step_cannot_lose_all_its_keys() -> None:
    with pytest.raises(UsageError):
        without(Replace(find="w", new="v", keys=("a.w",)), {"a.w"})


def test_that_drop_is_not_restricted_since_its_keys_are_what_it_does() -> None:
    assert restricted(Drop(keys=("a",)), ("b",)) == Drop(keys=("a",))


def test_that_the_keys_of_another_file_are_not_those_of_a_selection() -> None:
    assert restricted(Take(path="b.pth", keys=("a",)), ("b",)) == Take(path="b.pth", keys=("a",))


def test_that_too_long_a_list_of_keys_is_refused() -> None:
    with pytest.raises(UsageError, match="one by one"):
        restricted(Strip(prefix="a."), [f"a.{i}" for i in range(3000)])


@pytest.mark.parametrize("prefix", ["a.", "a{0}.", "re:a.", "a*."])
def test_that_a_prefix_means_what_is_below_it_whatever_it_holds(prefix: str) -> None:
    step = Replace(find="w", new="v", keys=(below(prefix),))
    assert step.plan([f"{prefix}w", "x.w"]).new_keys == [f"{prefix}v", "x.w"]


STEPS = st.sampled_from(
    [
        Replace(find="a", new="xy"),
        Replace(find=".", new=""),
        Replace(find=r"([a-b])\.(?:(c)|b)", new=r"\2<\g<1>>\1", syntax="regex"),
        Replace(find=r"(a|b)(\.(c))?", new=r"\\q\3", syntax="regex"),
        Rename(rules=((r"re.full:(.*)\.c", r"\1.d"),)),
        Rename(rules=(("**.{x}", "{x}.q"),)),
        Strip(prefix="a", when="any"),
    ]
)


@given(STEPS, st.text("abc.", min_size=1, max_size=9))
def test_that_the_parts_of_a_marked_key_are_the_key(step: Operation, key: str) -> None:
    new = step.plan([key]).new_keys[0]
    assert new is not None
    old_parts, new_parts = mark(step, key, new)
    assert "".join(part.text for part in old_parts) == key
    assert "".join(part.text for part in new_parts) == new
    kept = [[part.text for part in parts if part.kind == "kept"] for parts in (old_parts, new_parts)]
    assert kept[0] == kept[1]


def test_that_groups_are_told_from_what_goes_and_comes() -> None:
    step = Replace(find=r"blocks\.(\d+)\.", new=r"layers.\1.", syntax="regex")
    old, new = mark(step, "x.blocks.7.w", "x.layers.7.w")
    assert [tuple(part) for part in old] == [
        *[("x.", "kept"), ("blocks.", "gone"), ("7", "carried"), (".", "gone"), ("w", "kept")]
    ]
    assert [tuple(part) for part in new] == [
        *[("x.", "kept"), ("layers.", "new"), ("7", "carried"), (".", "new"), ("w", "kept")]
    ]

"""Expanding, filtering and sorting a tree."""

from __future__ import annotations

import random

import pytest

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.sheet import EXPANDED, MATCHED, pack
from sdviewer.core.shown_rows import ShownRows
from sdviewer.core.tree import build_tree
from sdviewer.errors import UsageError
from tests.core.builders import checkpoint
from tests.core.test_tree import blocks


def shown_of(source: Checkpoint) -> ShownRows:
    return ShownRows(build_tree(source), source)


def names(shown: ShownRows) -> list[str]:
    return [shown.tree.name[row] for row in shown.visible()]


@pytest.fixture
def shown() -> ShownRows:
    return shown_of(checkpoint(blocks(0, 1, 2, 3) | {"head.weight": (10, 2), "head.bias": (10,)}))


def test_that_the_model_is_open_at_first_and_blocks_are_closed(shown: ShownRows) -> None:
    assert names(shown) == ["model", "cls_token", "blocks", "head"]


def test_that_a_lone_wrapper_is_open_at_first() -> None:
    shown = shown_of(checkpoint({"module.net.a": (1,), "module.net.b": (1,), "module.head": (1,)}))
    assert names(shown) == ["model", "module", "net", "head"]


def test_that_a_toggled_row_shows_and_hides_its_children(shown: ShownRows) -> None:
    head = shown.tree.name.index("head")
    shown.toggle(head)
    assert names(shown) == ["model", "cls_token", "blocks", "head", "weight", "bias"]
    shown.toggle(head)
    assert names(shown) == ["model", "cls_token", "blocks", "head"]


def test_that_a_filter_shows_matches_with_their_parents_and_goes_without_a_trace(shown: ShownRows) -> None:
    before = names(shown)
    shown.set_filter("head bias")
    assert names(shown) == ["model", "head", "bias"]
    assert shown.matched is not None
    assert len(shown.matched) == 1
    shown.set_filter("  ")
    assert names(shown) == before


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("qkv", 8),
        ("QKV weight", 4),
        ("-blocks", 3),
        ("*.bias", 9),
        ("/^blocks\\.[13]\\./", 8),
        ("-/^blocks/", 3),
        ("shape:6", 8),
        ("shape:*×2", 5),
        ("shape:1x1x2", 1),
        ("dtype:f32", 19),
        ("dtype:bf16", 0),
        ("params:>=12 qkv", 4),
        ("size:>70", 1),
        ("shared", 0),
        ("-shared head", 2),
    ],
)
def test_that_the_filter_language_means_what_it_says(shown: ShownRows, text: str, count: int) -> None:
    shown.set_filter(text)
    assert shown.matched is not None
    assert len(shown.matched) == count


@pytest.mark.parametrize("text", ["/(/", "params:>lots", "size:1.2.3"])
def test_that_a_bad_filter_is_told_and_changes_nothing(shown: ShownRows, text: str) -> None:
    shown.set_filter("head")
    before = names(shown)
    with pytest.raises(UsageError):
        shown.set_filter(text)
    assert names(shown) == before


def test_that_sorting_orders_siblings_only(shown: ShownRows) -> None:
    shown.set_sort("params", descending=True)
    assert names(shown) == ["model", "blocks", "head", "cls_token"]
    shown.set_sort("name", descending=False)
    assert names(shown) == ["model", "blocks", "cls_token", "head"]


@pytest.mark.parametrize("subtree", [False, True])
def test_that_a_row_that_an_edit_took_away_meanwhile_is_neither_opened_nor_closed(
    shown: ShownRows, subtree: bool
) -> None:
    before = bytes(shown.expanded)
    for value in (True, False):
        shown.set_expanded([-1], value, subtree)
        assert bytes(shown.expanded) == before


def test_that_of_several_rows_to_reveal_none_stays_hidden_when_one_lifts_the_filter(shown: ShownRows) -> None:
    shown.set_filter("blocks.1.")
    rows = [shown.tree.path_text.index(key) for key in ("blocks.1.norm.bias", "blocks.2.norm.bias")]
    shown.reveal(*rows)
    assert shown.filter == ""
    assert set(rows) <= set(shown.visible())


def test_that_reveal_opens_everything_above_and_lifts_a_filter_that_hides(shown: ShownRows) -> None:
    shown.set_filter("head")
    row = shown.tree.path_text.index("blocks.2.norm.bias")
    shown.reveal(row)
    assert row in shown.visible()
    assert shown.filter == ""


def test_that_flags_carry_the_state_of_now(shown: ShownRows) -> None:
    base = pack(shown.tree)[0]["flags"]
    shown.set_filter("head.bias")
    flags = shown.flags(base)
    bias = shown.tree.path_text.index("head.bias")
    assert flags[bias] & MATCHED
    assert flags[0] & EXPANDED
    assert [f & ~(EXPANDED | MATCHED) for f in flags] == list(base)


def test_that_an_edit_keeps_what_was_open_and_selected() -> None:
    source = checkpoint({f"module.{key}": shape for key, shape in blocks(0, 1, 2, 3).items()})
    before = shown_of(source)
    before.expand_all(True)
    row = before.tree.path_text.index("module.blocks.2.norm.bias")
    stripped = build_tree(source, {0: [key.removeprefix("module.") for key in source.state_dicts[0].keys]})
    after = ShownRows(stripped, source)
    (selected,) = after.adopt(before, [row])
    assert stripped.path_text[selected] == "blocks.2.norm.bias"
    assert selected in after.visible()


def test_that_a_selected_row_stays_in_sight_when_an_undo_brings_its_fold_back() -> None:
    source = checkpoint(blocks(0, 1, 2, 3))
    keys = [key.replace("blocks.", "blocks.n") for key in source.state_dicts[0].keys]
    renamed = ShownRows(build_tree(source, {0: keys}), source)
    renamed.expand_all(True)
    closed = renamed.tree.path_text.index("blocks.n3.norm.bias")
    row = renamed.tree.path_text.index("blocks.n2.norm.bias")
    renamed.toggle(renamed.tree.parent[closed])
    back = shown_of(source)
    selected, hidden = back.adopt(renamed, [row, closed])
    assert back.tree.path_text[selected] == "blocks.2.norm.bias"
    assert selected in back.visible()
    assert hidden not in back.visible()


def test_that_shown_rows_agree_with_a_plain_walk() -> None:
    source = checkpoint(blocks(*range(30)))
    shown = shown_of(source)
    rng = random.Random(3)
    for _ in range(60):
        shown.toggle(rng.randrange(len(shown.tree)))
        for sort in ("natural", "name"):
            shown.set_sort(sort, descending=False)  # type: ignore[arg-type]
            rows = list(shown.visible())
            assert len(rows) == len(set(rows))
            assert set(rows) == {
                row for row in range(len(shown.tree)) if all(shown.expanded[up] for up in shown.tree.ancestors(row))
            }

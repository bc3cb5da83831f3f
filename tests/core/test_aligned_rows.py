"""Which rows of two aligned trees are on the screen."""

from __future__ import annotations

import pytest

from sdviewer.core.aligned import AlignedTree, Group, align
from sdviewer.core.aligned_rows import AlignedRows
from sdviewer.core.checkpoint import Checkpoint, Identity, TensorInfo
from sdviewer.errors import UsageError
from tests.core.test_aligned import BLOCK, leaves_of

IDENTICAL, CHANGED, ONLY_A = 1, 3, 6


def checkpoint(keys: list[str]) -> Checkpoint:
    tensors = [
        TensorInfo(
            (key,), 0, key, (4, 8 if "qkv" in key else 2), "float32", None, 0, str(at), 4, None, "tensor", "", None
        )
        for at, key in enumerate(keys)
    ]
    return Checkpoint("m.pth", "torch-zip", 1, "little", Identity(0, 0, 0, 0, 0), tensors=tensors)


def rows_of(a: list[str], b: list[str], alike: list[str] | None = None) -> AlignedRows:
    """Pairs by key; every tensor knows its place in the checkpoint."""
    leaves = [
        leaf._replace(
            a=leaf.a and leaf.a._replace(tensor=a.index(leaf.a.key)),
            b=leaf.b and leaf.b._replace(tensor=b.index(leaf.b.key)),
        )
        for leaf in leaves_of(a, b)
    ]
    return AlignedRows(align([Group("", "")], leaves, alike or ()), checkpoint(a), checkpoint(b))


KEYS = [f"blocks.{block}.{name}" for block in range(4) for name in BLOCK]


def shown(rows: AlignedRows) -> list[str]:
    tree = rows.tree
    return [tree.key_a[row] or tree.key_b[row] or tree.name_a[row] for row in rows.visible()]


def with_statuses(rows: AlignedRows, statuses: dict[str, int], rest: int = IDENTICAL) -> AlignedRows:
    tree = rows.tree
    keys = [tree.key_a[row] or tree.key_b[row] for row in range(len(tree))]
    rows.set_statuses(bytes(0 if tree.leaf[row] < 0 else statuses.get(keys[row], rest) for row in range(len(tree))))
    return rows


def row_of(tree: AlignedTree, key: str) -> int:
    return next(row for row in range(len(tree)) if key in (tree.key_a[row], tree.key_b[row]))


def test_that_as_many_modules_are_open_at_first_as_have_room() -> None:
    assert len(shown(rows_of(KEYS, KEYS))) == 21
    many = [f"blocks.{block}.{name}" for block in range(40) for name in BLOCK]
    assert len(shown(rows_of(many, many))) <= 60


def test_that_a_filter_looks_at_both_sides() -> None:
    rows = rows_of(["old.weight", "same.weight"], ["new.weight", "same.weight"])
    rows.set_filter("new")
    assert shown(rows) == ["new.weight"]
    rows.set_filter("old")
    assert shown(rows) == ["old.weight"]
    assert rows.matched == 1
    rows.set_filter("")
    assert rows.matched is None


def test_that_a_filter_by_shape_looks_at_the_tensors() -> None:
    rows = rows_of(KEYS, KEYS)
    rows.set_filter("shape:*×8 -bias")
    assert rows.matched == 4
    assert "blocks.2.attn.qkv.weight" in shown(rows)


def test_that_a_filter_by_numbers_of_one_file_is_refused_and_what_is_shown_stays() -> None:
    rows = rows_of(KEYS, KEYS)
    rows.set_filter("qkv")
    before = shown(rows)
    with pytest.raises(UsageError):
        rows.set_filter("std:>0.1")
    assert shown(rows) == before


def test_that_a_chip_shows_one_status_and_gives_the_tree_back_as_it_was() -> None:
    rows = with_statuses(rows_of(KEYS, KEYS), {"blocks.1.norm.weight": CHANGED, "blocks.3.attn.qkv.bias": CHANGED})
    rows.expand_all(False)
    rows.set_chips([CHANGED])
    assert shown(rows) == ["blocks", "blocks.1", "blocks.1.norm.weight", "blocks.3", "blocks.3.attn.qkv.bias"]
    rows.set_chips(())
    assert shown(rows) == ["blocks"]


def test_that_hiding_what_is_alike_opens_nothing() -> None:
    rows = with_statuses(rows_of(KEYS, KEYS), {"blocks.1.norm.weight": CHANGED})
    rows.expand_all(False)
    rows.set_hidden([IDENTICAL])
    assert shown(rows) == ["blocks"]
    rows.expand_all(True)
    assert shown(rows) == ["blocks", "blocks.1", "blocks.1.norm.weight"]


def test_that_more_statuses_extend_what_a_chip_shows_and_keep_closed_what_was_closed() -> None:
    rows = with_statuses(rows_of(KEYS, KEYS), {"blocks.1.norm.weight": CHANGED}, rest=0)
    rows.set_chips([CHANGED])
    rows.toggle(row_of(rows.tree, "blocks.1"))
    with_statuses(rows, {"blocks.1.norm.weight": CHANGED, "blocks.2.norm.weight": CHANGED})
    assert shown(rows) == ["blocks", "blocks.1", "blocks.2", "blocks.2.norm.weight"]


def test_that_the_next_difference_is_found_where_it_is_folded_away() -> None:
    rows = with_statuses(rows_of(KEYS, KEYS), {"blocks.1.norm.weight": CHANGED, "blocks.3.norm.weight": CHANGED})
    rows.expand_all(False)
    tree = rows.tree
    first = rows.next_of(-1, [CHANGED], forwards=True)
    assert tree.key_a[first] == "blocks.1.norm.weight"
    second = rows.next_of(first, [CHANGED], forwards=True)
    assert tree.key_a[second] == "blocks.3.norm.weight"
    assert rows.next_of(second, [CHANGED], forwards=True) == -1
    assert rows.next_of(second, [CHANGED], forwards=False) == first
    assert rows.next_of(-1, [CHANGED], forwards=False) == second
    rows.reveal(second)
    assert "blocks.3.norm.weight" in shown(rows)


def test_that_stepping_follows_the_order_that_is_shown() -> None:
    rows = with_statuses(rows_of(KEYS, KEYS), {key: CHANGED for key in KEYS if "norm" in key})
    ranks = [row if rows.tree.leaf[row] < 0 else 0 for row in range(len(rows.tree))]
    rows.keys = lambda column, descending: ranks
    rows.set_sort("rel_l2", True)
    assert rows.tree.key_a[rows.next_of(-1, [CHANGED], forwards=True)] == "blocks.3.norm.weight"


def test_that_sorting_puts_what_has_no_number_last_either_way() -> None:
    rows = rows_of(["a", "b", "c"], ["a", "b", "c"])
    numbers = [2.0, None, 3.0]
    rows.keys = lambda column, descending: numbers
    rows.set_sort("rel_l2", True)
    assert shown(rows) == ["c", "a", "b"]
    rows.set_sort("rel_l2", False)
    assert shown(rows) == ["a", "c", "b"]
    rows.set_sort("natural", False)
    assert shown(rows) == ["a", "b", "c"]


def test_that_what_is_open_filtered_and_selected_stays_when_blocks_are_folded() -> None:
    old = rows_of(KEYS, KEYS)
    old.expand_all(False)
    old.reveal(row_of(old.tree, "blocks.1.norm.weight"))
    old.set_filter("weight")
    old.set_filter("")
    new = rows_of(KEYS, KEYS, ["identical"] * len(KEYS))
    chosen = new.adopt(old, [row_of(old.tree, "blocks.1.norm.weight"), row_of(old.tree, "blocks.3.norm.weight")])
    assert [new.tree.key_a[row] for row in chosen] == ["blocks.1.norm.weight", "blocks.3.norm.weight"]
    assert "blocks.1.norm.weight" in shown(new)
    assert "blocks.3.norm.weight" not in shown(new)
    back = rows_of(KEYS, KEYS)
    assert [back.tree.key_a[row] for row in back.adopt(new, chosen)] == ["blocks.1.norm.weight", "blocks.3.norm.weight"]


def test_that_revealing_a_row_takes_away_what_hides_it() -> None:
    rows = with_statuses(rows_of(KEYS, KEYS), {"blocks.1.norm.weight": CHANGED})
    rows.set_filter("qkv")
    rows.set_chips([CHANGED])
    row = row_of(rows.tree, "blocks.2.norm.weight")
    rows.reveal(row)
    assert row in rows.visible()
    assert rows.filter == ""

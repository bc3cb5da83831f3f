"""Two trees in one: what stands beside what, where gaps are, what is flat and what is folded."""

from __future__ import annotations

from collections.abc import Sequence

from sdviewer.core.aligned import (
    FOLD,
    GAP_A,
    GAP_B,
    HAND,
    VALUE,
    AlignedSheet,
    AlignedTree,
    Group,
    Leaf,
    Side,
    align,
    pack,
)

BLOCK = ("norm.weight", "attn.qkv.weight", "attn.qkv.bias", "mlp.fc.weight")


def side(key: str, order: int = 0, shape: str = "3") -> Side:
    return Side(key, "vector", shape, order)


def leaves_of(a: Sequence[str], b: Sequence[str], pairs: dict[str, str] | None = None) -> list[Leaf]:
    """Keys that are equal on both sides are pairs, and those that `pairs` maps from A to B."""
    partner = {key: key for key in a if key in b} | (pairs or {})
    place = {key: at for at, key in enumerate(b)}
    made = []
    for at, key in enumerate(a):
        other = partner.get(key)
        made.append(
            Leaf(0, side(key, at), None if other is None else side(other, place[other]), at, compared=other is not None)
        )
    taken = set(partner.values())
    only = [key for key in b if key not in taken]
    return made + [Leaf(0, None, side(key, place[key]), len(a) + at) for at, key in enumerate(only)]


def lines(tree: AlignedTree) -> list[str]:
    """The rows as a person sees them: indented, a gap as `-`."""
    shown = []
    for row, flags in enumerate(tree.flags):
        a = "-" if flags & GAP_A else tree.name_a[row]
        b = "-" if flags & GAP_B else tree.name_b[row]
        shown.append(f"{'  ' * tree.depth[row]}{a} | {b}")
    return shown


def test_that_what_only_b_has_stands_behind_what_is_before_it_there() -> None:
    a = ["first.weight", "last.weight", "gone"]
    b = ["start", "first.weight", "middle", "last.weight"]
    assert lines(align([Group("", "")], leaves_of(a, b))) == [
        "- | start",
        "first.weight | first.weight",
        "- | middle",
        "last.weight | last.weight",
        "gone | -",
    ]


def test_that_a_tensor_that_only_b_has_is_in_the_module_of_its_siblings() -> None:
    a = ["norm.weight", "head.weight", "head.scale"]
    b = ["norm.weight", "norm.bias", "head.weight", "head.scale"]
    assert lines(align([Group("", "")], leaves_of(a, b))) == [
        "norm | norm",
        "  weight | weight",
        "  - | bias",
        "head | head",
        "  weight | weight",
        "  scale | scale",
    ]


def test_that_modules_follow_a_prefix_that_only_one_side_has() -> None:
    a = ["net.fc.weight", "net.fc.bias", "net.up.weight", "net.up.bias"]
    b = [f"module.{key}" for key in a] + ["module.net.up.scale"]
    rows = lines(align([Group("", "")], leaves_of(a, b, {key: f"module.{key}" for key in a})))
    assert rows == [
        "net | module.net",
        "  fc | fc",
        "    weight | weight",
        "    bias | bias",
        "  up | up",
        "    weight | weight",
        "    bias | bias",
        "    - | scale",
    ]


def test_that_a_block_shows_its_tensors_without_modules_between() -> None:
    keys = [f"blocks.{block}.{name}" for block in (2, 10, 1) for name in BLOCK]
    rows = lines(align([Group("", "")], leaves_of(keys, keys)))
    assert rows[:3] == ["blocks | blocks", "  1 | 1", "    norm.weight | norm.weight"]
    assert "    attn.qkv.bias | attn.qkv.bias" in rows
    assert [row for row in rows if row.startswith("  ") and row[2].isdigit()] == ["  1 | 1", "  2 | 2", "  10 | 10"]


def test_that_blocks_of_more_blocks_keep_their_modules() -> None:
    keys = [f"stages.{stage}.blocks.{block}.{name}" for stage in (0, 1) for block in (0, 1) for name in BLOCK]
    rows = lines(align([Group("", "")], leaves_of(keys, keys)))
    assert rows[:4] == ["stages | stages", "  0.blocks | 0.blocks", "    0 | 0", "      norm.weight | norm.weight"]


def test_that_a_small_module_without_a_counterpart_is_not_a_click_away() -> None:
    a = ["body.weight", "body.bias", "head.weight", "head.bias"]
    rows = lines(align([Group("", "")], leaves_of(a, a[:2])))
    assert rows[-2:] == ["head.weight | -", "head.bias | -"]
    assert rows[0] == "body | body"


def test_that_blocks_that_differ_alike_are_folded_and_others_are_not() -> None:
    keys = [f"blocks.{block}.{name}" for block in range(8) for name in BLOCK]
    leaves = leaves_of(keys, keys)
    words = ["" if ".3." in key else "identical" for key in keys]
    tree = align([Group("", "")], leaves, words)
    rows = [row for row, depth in zip(lines(tree), tree.depth, strict=True) if depth == 1]
    assert rows == ["  0 – 2 | 0 – 2", "  3 | 3", "  4 – 7 | 4 – 7"]
    assert [tree.leaves[row] for row, flags in enumerate(tree.flags) if flags & FOLD] == [12, 16]
    assert not any(flags & FOLD for flags in align([Group("", "")], leaves, [""] * len(keys)).flags)


def test_that_blocks_that_only_one_side_has_fold_with_a_gap() -> None:
    keys = [f"blocks.{block}.{name}" for block in range(4) for name in BLOCK]
    tree = align([Group("", "")], leaves_of(keys[:4], keys), ["identical"] * 4 + ["only_b"] * 12)
    assert "  - | 1 – 3" in lines(tree)


def test_that_other_state_dicts_and_values_have_rows_of_their_own() -> None:
    leaves = [
        Leaf(0, side("w"), side("w"), 0, compared=True),
        Leaf(1, side("w"), side("w"), 1, compared=True),
        Leaf(2, Side("epoch", "value", "1", 0), Side("epoch", "value", "2", 0), -1),
        Leaf(2, None, Side("loss", "value", "0.5", 1), -1),
    ]
    tree = align([Group("model", "model"), Group("ema", "shadow"), Group("values", "values", "dict")], leaves)
    assert lines(tree) == ["w | w", "ema | shadow", "  w | w", "values | values", "  epoch | epoch", "  - | loss"]
    assert [bool(flags & VALUE) for flags in tree.flags] == [False, False, False, False, True, True]
    assert tree.shape_a[4] == "1"
    assert tree.shape_b[4] == "2"


def test_that_a_pair_made_by_hand_says_so_and_has_both_names() -> None:
    leaf = Leaf(0, side("a.weight"), side("other.kernel"), 0, compared=True, by_hand=True)
    tree = align([Group("", "")], [leaf])
    assert lines(tree) == ["a.weight | other.kernel"]
    assert tree.flags[0] & HAND


def test_that_a_window_reads_from_buffers_what_the_worker_packed() -> None:
    a = ["blocks.0.w", "blocks.0.ü", "\ud800"]
    tree = align([Group("", "")], leaves_of(a, a[:2]))
    sheet = AlignedSheet.from_buffers({name: memoryview(raw) for name, raw in pack(tree).items()})
    for row in range(len(tree)):
        assert sheet.words("name_a", row) == tree.name_a[row]
        assert sheet.words("name_b", row) == tree.name_b[row]
        assert sheet.words("shape_b", row) == tree.shape_b[row]
        assert sheet.kind("kind_a", row) == tree.kind_a[row]
        assert sheet.columns["pair"][row] == tree.pair[row]


def test_that_a_key_of_thousands_of_dots_is_no_tree_of_thousands_of_levels() -> None:
    key = ".".join(["x"] * 5000)
    tree = align([Group("", "")], leaves_of(["w", key], ["w"]))
    assert max(tree.depth) < 210

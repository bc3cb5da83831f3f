"""Which modules get a tile, and where it stands."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdviewer.core.tile_layout import Layout, Rect, Weights, lay_out
from sdviewer.core.tiles import MOST_GROUPS, MOST_TILES, Group, model_rows, module_tiles
from sdviewer.core.tree import build_tree
from tests.core.builders import checkpoint

Shapes = Mapping[str, Sequence[int]]


def block(prefix: str, width: int = 64) -> dict[str, Sequence[int]]:
    return {
        f"{prefix}.norm.weight": (width,),
        f"{prefix}.qkv.weight": (3 * width, width),
        f"{prefix}.qkv.bias": (3 * width,),
        f"{prefix}.fc.weight": (4 * width, width),
        f"{prefix}.fc.bias": (4 * width,),
    }


def blocks(prefix: str, number: int, width: int = 64) -> dict[str, Sequence[int]]:
    return {key: shape for i in range(number) for key, shape in block(f"{prefix}.{i}", width).items()}


def groups_of(shapes: Shapes) -> list[Group]:
    made = checkpoint(shapes)
    tree = build_tree(made)
    return module_tiles(tree, model_rows(made, tree))


def layout_of(groups: Sequence[Group], width: float = 1000, height: float = 280) -> Layout:
    weights = [Weights(group.container, tuple(tile.params for tile in group.tiles)) for group in groups]
    return lay_out(weights, width, height)


def test_that_each_block_is_a_group_in_file_order_cut_like_the_others() -> None:
    groups = groups_of({"embed.weight": (100, 64), **blocks("blocks", 6), "head.weight": (10, 64)})
    assert [group.name for group in groups] == ["embed", *(f"blocks.{i}" for i in range(6)), "head"]
    inside = [[(tile.name, tile.params) for tile in group.tiles] for group in groups[1:7]]
    assert inside[0] == [("qkv", 12480), ("fc", 16640), ("norm", 64)]
    assert all(tiles == inside[0] for tiles in inside)


def test_that_tiles_hold_every_element_once() -> None:
    shapes = {"embed.weight": (100, 64), **blocks("a.layers", 3), **blocks("b.layers", 5), "out.weight": (3, 64)}
    groups = groups_of(shapes)
    total = sum(a * (b[0] if b else 1) for a, *b in shapes.values())
    assert sum(group.params for group in groups) == total
    assert sum(tile.params for group in groups for tile in group.tiles) == total


def test_that_stages_are_opened_and_blocks_that_hold_lists_are_not() -> None:
    staged = {}
    for stage, width in enumerate((16, 32, 64)):
        staged |= blocks(f"layers.{stage}.blocks", 2, width)
    assert "layers.2.blocks.1" in [group.name for group in groups_of(staged)]
    nested = {f"block.{i}.layer.{j}.w.weight": (64, 64) for i in range(6) for j in range(2)}
    assert [group.name for group in groups_of(nested)] == [f"block.{i}.layer" for i in range(6)]


def test_that_ten_thousand_blocks_are_cut_into_runs_that_say_so() -> None:
    groups = groups_of({f"layers.{i}.{name}.weight": (2, 2) for i in range(10_000) for name in "ab"})
    assert 20 <= len(groups) <= MOST_GROUPS
    assert groups[0].name == "layers.0 – 155"
    assert sum(tile.modules for group in groups for tile in group.tiles) == 10_000


def test_that_eighty_layers_stay_below_the_most_tiles() -> None:
    groups = groups_of(blocks("model.layers", 80))
    assert len(groups) == 80
    assert sum(len(group.tiles) for group in groups) <= MOST_TILES


def test_that_a_flat_file_and_a_single_tensor_have_tiles() -> None:
    assert [tile.name for group in groups_of({"weight": (5, 5)}) for tile in group.tiles] == ["weight"]
    flat = groups_of({f"t{i}": (2,) for i in range(3000)})
    assert sum(group.params for group in flat) == 6000
    assert len(flat) <= MOST_GROUPS


def test_that_alike_blocks_have_rectangles_of_one_size() -> None:
    groups = groups_of({"embed.weight": (100, 64), **blocks("blocks", 12), "head.weight": (10, 64)})
    laid_out = layout_of(groups)
    sizes = {(round(rect.width, 3), round(rect.height, 3)) for rect in laid_out.groups[1:13]}
    assert len(sizes) == 1
    first = [_against(laid_out.groups[1], rect) for rect in laid_out.tiles[1]]
    assert all([_against(laid_out.groups[at], rect) for rect in laid_out.tiles[at]] == first for at in range(2, 13))


def test_that_a_block_that_lacks_a_bias_stands_in_the_grid_of_the_others() -> None:
    keys = blocks("blocks", 12)
    del keys[next(key for key in keys if key.startswith("blocks.11.") and key.endswith(".bias"))]
    laid_out = layout_of(groups_of({"embed.weight": (100, 64), **keys, "head.weight": (10, 64)}))
    assert len({(round(rect.width, 3), round(rect.height, 3)) for rect in laid_out.groups[1:13]}) == 1


def _against(group: Rect, rect: Rect) -> tuple[float, ...]:
    return tuple(round(x, 2) for x in (rect.x - group.x, rect.y - group.y, rect.width, rect.height))


def test_that_area_is_the_share_of_the_elements() -> None:
    laid_out = lay_out([Weights(0, (n,)) for n in (300, 100, 200, 300)], 1000, 300)
    areas = [rect.width * rect.height for rect in laid_out.groups]
    assert areas[0] / areas[1] == pytest.approx(3, rel=0.05)
    assert areas[2] / areas[1] == pytest.approx(2, rel=0.05)


def test_that_one_embedding_does_not_hide_the_rest_and_is_marked() -> None:
    groups = [Weights(0, (9_000_000,)), *[Weights(1, (1000,))] * 4]
    laid_out = lay_out(groups, 1000, 300)
    assert laid_out.cut == {(0, 0)}
    assert laid_out.groups[0].width == pytest.approx(400, abs=5)
    assert lay_out([Weights(0, (9_000_000,))], 1000, 300).cut == set()


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.lists(st.integers(1, 10**9), min_size=1, max_size=14)), min_size=1, max_size=60
    ),
    st.integers(60, 1600),
    st.integers(40, 600),
)
def test_that_tiles_stand_inside_and_never_on_each_other(
    groups: list[tuple[int, list[int]]], width: int, height: int
) -> None:
    laid_out = lay_out([Weights(container, tuple(tiles)) for container, tiles in groups], width, height)
    assert len(laid_out.groups) == len(groups)
    for rect, tiles, (_, weights) in zip(laid_out.groups, laid_out.tiles, groups, strict=True):
        assert len(tiles) == len(weights)
        for tile in tiles:
            assert tile.x >= rect.x - 0.01
            assert tile.x + tile.width <= rect.x + rect.width + 2.01
        for one, other in itertools.combinations(tiles, 2):
            assert not _overlap(one, other)
    for one, other in itertools.combinations(laid_out.groups, 2):
        assert not _overlap(one, other) or width < 400 or height < 200


def _overlap(one: Rect, other: Rect) -> bool:
    across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    return across > 0.01 and down > 0.01


def test_that_a_thousand_stages_of_which_no_two_are_alike_are_cut_in_no_time() -> None:
    # Each was compared with all others each time that one was left closed: minutes.
    shapes = {f"{i}.{j}.{k}": (i + 1, 3) for i in range(1500) for j in range(2) for k in "ab"}
    groups = groups_of(shapes)
    assert len(groups) <= MOST_GROUPS
    assert sum(group.params for group in groups) == sum(a * b for a, b in shapes.values())


def test_that_thousands_of_models_and_loose_tensors_become_few_groups() -> None:
    made = checkpoint({f"t{i}": (i % 7 + 1,) for i in range(2000)})
    loose = tuple(t._replace(state_dict=None, key=None) for t in made.tensors)
    made = replace(made, state_dicts=(), tensors=loose)
    tree = build_tree(made)
    groups = module_tiles(tree, model_rows(made, tree))
    assert len(groups) <= MOST_GROUPS
    assert sum(group.params for group in groups) == sum(info.elements for info in made.tensors)
    assert groups[0].name.startswith("t0 – t")

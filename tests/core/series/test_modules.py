from __future__ import annotations

import math

from sdviewer.core.series.modules import MOST_MODULES, find_outlier, modules_of


def vit(blocks: int, prefix: str = "") -> dict[str, int]:
    sizes = {f"{prefix}patch_embed.proj.weight": 10, f"{prefix}pos_embed": 5}
    for n in range(blocks):
        sizes |= {f"{prefix}blocks.{n}.attn.qkv.weight": 100, f"{prefix}blocks.{n}.mlp.fc1.weight": 200}
    return sizes | {f"{prefix}head.weight": 20, f"{prefix}head.bias": 2}


def test_that_blocks_are_followed_one_by_one_in_the_order_of_the_file() -> None:
    names, groups = modules_of(vit(12))
    assert names[:3] == ["patch_embed", "pos_embed", "blocks.0"]
    assert names[-2:] == ["blocks.11", "head"]
    assert groups[2] == groups[3] == 2


def test_that_what_all_keys_begin_with_is_left_out_of_the_names() -> None:
    assert modules_of(vit(8, "module."))[0][:3] == ["patch_embed", "pos_embed", "blocks.0"]


def test_that_lists_inside_of_others_are_followed_too() -> None:
    sizes = {f"layer{n}.{b}.conv.weight": 9 for n in (1, 2) for b in (0, 1)} | {"fc.weight": 3}
    assert modules_of(sizes)[0] == ["layer1.0", "layer1.1", "layer2.0", "layer2.1", "fc"]


def test_that_a_weight_and_its_bias_are_one_module() -> None:
    assert modules_of({"fc1.weight": 4, "fc1.bias": 1, "fc2.weight": 4, "fc2.bias": 1})[0] == ["fc1", "fc2"]


def test_that_neighbours_are_taken_together_where_there_are_too_many() -> None:
    names, groups = modules_of({f"layers.{n}.w.weight": 1 for n in range(300)})
    assert len(names) <= MOST_MODULES
    assert names[0] == "0 – 4"
    assert groups[4] == 0
    assert groups[5] == 1
    assert groups[-1] == len(names) - 1


def test_that_the_line_that_grows_alone_is_told() -> None:
    lines = [[1.0, 1.05 + at / 100, 1.1] for at in range(6)]
    found = find_outlier([*lines, [1.0, 4.0, 9.0]])
    assert found is not None
    assert found.line == 6
    assert math.isclose(found.times, 9.0)


def test_that_a_line_that_dies_away_is_told_too() -> None:
    found = find_outlier([*[[2.0, 2.0 + at / 50] for at in range(6)], [2.0, 0.1]])
    assert found is not None
    assert found.line == 6


def test_that_lines_that_go_alike_have_no_outlier() -> None:
    assert find_outlier([[1.0, 3.0 + at / 10] for at in range(8)]) is None
    assert find_outlier([[1.0, 1.0]] * 7 + [[1.0, 1.1]]) is None


def test_that_lines_that_spread_widely_have_no_outlier() -> None:
    """The farthest of many that all go their own way is none."""
    assert find_outlier([[1.0, 1.0 + 0.4 * at] for at in range(8)]) is None


def test_that_nan_and_zero_are_passed_over() -> None:
    lines = [[1.0, 1.0, math.nan]] * 6 + [[0.0, 0.0, 0.0], [math.nan, math.nan, math.nan]]
    assert find_outlier(lines) is None

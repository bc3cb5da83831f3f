from __future__ import annotations

import pytest

from sdviewer.core.series import presence as presence_module
from sdviewer.core.series.presence import NO_LAYOUT, Layouts, Row, Run, changed_first, common_prefix, presence

Shapes = dict[str, tuple[int, ...]]


def rows_of(*files: Shapes) -> dict[str, Row]:
    layouts = Layouts()
    numbers = [layouts.add((key, shape, "float32") for key, shape in file.items()) for file in files]
    return {row.name: row for row in presence(layouts, numbers)}


def block(n: int) -> Shapes:
    return {f"blocks.{n}.fc.weight": (4, 4), f"blocks.{n}.fc.bias": (4,)}


def test_that_files_alike_share_a_layout() -> None:
    layouts = Layouts()
    first = layouts.add([("a", (2,), "float32")])
    assert layouts.add([("a", (2,), "float32")]) == first
    assert layouts.add([("a", (2,), "float16")]) != first


def test_that_a_layer_that_appears_later_is_a_bar_that_begins_there() -> None:
    early, late = {"stem.w": (2,), **block(0)}, {"stem.w": (2,), **block(0), **block(1)}
    rows = rows_of(early, early, late)
    assert rows["blocks.1"].runs == (Run(2, 3, 0),)
    assert rows["blocks.1"].keys == 2
    assert rows["stem"].always(3)


def test_that_a_layer_that_goes_and_comes_back_has_two_bars() -> None:
    with_it, without = {"a.w": (1,), "b.w": (1,)}, {"a.w": (1,)}
    assert rows_of(with_it, without, with_it)["b"].runs == (Run(0, 1, 0), Run(2, 3, 0))


def test_that_a_head_of_another_shape_changes_where_it_does() -> None:
    rows = rows_of(
        {"body.w": (3,), "head.weight": (10, 4), "head.bias": (10,)},
        {"body.w": (3,), "head.weight": (100, 4), "head.bias": (100,)},
    )
    head = rows["head"]
    assert (head.keys, head.changes()) == (2, [1])
    assert head.forms == ("10×4 float32", "100×4 float32")


def test_that_a_dtype_that_changes_counts_too() -> None:
    layouts = Layouts()
    numbers = [layouts.add([("a.w", (2,), dtype), ("b.w", (2,), "float32")]) for dtype in ("float32", "bfloat16")]
    rows = {row.name: row for row in presence(layouts, numbers)}
    assert rows["a"].changes() == [1]
    assert rows["b"].changes() == []


def test_that_a_module_of_which_a_part_changes_is_shown_by_its_parts() -> None:
    rows = rows_of({"m.a.w": (1,), "m.b.w": (1,)}, {"m.a.w": (1,), "m.b.w": (2,)}, {"m.a.w": (1,), "m.b.w": (2,)})
    assert set(rows) == {"m.a", "m.b"}


def test_that_blocks_of_one_list_that_go_alike_are_one_row() -> None:
    few = {"stem.w": (1,), **block(0), **block(1), **block(2)}
    rows = rows_of(few, {**few, **block(3)})
    assert set(rows) == {"stem", "blocks.0 – 2", "blocks.3"}
    assert rows["blocks.0 – 2"].keys == 6


def test_that_what_comes_later_stands_where_its_file_has_it() -> None:
    rows = rows_of({**block(0), "head.w": (1,)}, {**block(0), **block(1), "head.w": (1,)})
    assert list(rows) == ["blocks.0", "blocks.1", "head"]


def test_that_a_file_that_is_not_read_is_no_change() -> None:
    layouts = Layouts()
    one = layouts.add([("a.w", (1,), "float32"), ("b.w", (1,), "float32")])
    other = layouts.add([("a.w", (1,), "float32")])
    rows = {row.name: row.runs for row in presence(layouts, [NO_LAYOUT, one, NO_LAYOUT, other])}
    assert rows == {"a": (Run(0, 4, 0),), "b": (Run(0, 3, 0),)}
    assert presence(layouts, [NO_LAYOUT]) == []


def test_that_too_many_different_layouts_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence_module, "MOST_CELLS", 6)
    layouts = Layouts()
    numbers = [layouts.add([(f"k{n}", (1,), "float32")]) for n in range(4)]
    assert numbers == [0, 1, NO_LAYOUT, NO_LAYOUT]
    assert {row.name for row in presence(layouts, numbers)} == {"k0", "k1"}


def test_that_rows_that_change_are_shown_before_those_that_do_not() -> None:
    still = [Row(f"s{n}", 1, (Run(0, 3, 0),), ()) for n in range(3)]
    moving = Row("m", 1, (Run(1, 3, 0),), ())
    assert changed_first([*still, moving], 3, 2) == ([still[0], moving], 2)


def test_that_what_all_keys_begin_with_is_found_at_dots() -> None:
    assert common_prefix(["module.a.w", "module.ab.w"]) == "module."
    assert common_prefix(["a.w", "b.w"]) == ""
    assert common_prefix(["only.one"]) == ""

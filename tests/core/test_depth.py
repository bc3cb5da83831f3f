"""The lines through a model's blocks."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

from sdviewer.core.depth import Series, find_series


def series_of(keys: Iterable[str]) -> list[Series]:
    return find_series((at, key, (4, 4) if key.endswith("weight") else (4,), 16) for at, key in enumerate(keys))


def test_that_a_component_is_a_key_without_its_block() -> None:
    (series,) = series_of([f"blocks.{i}.attn.qkv.{last}" for i in range(3) for last in ("weight", "bias")])
    assert (series.name, series.blocks) == ("blocks", ("0", "1", "2"))
    assert [line.name for line in series.lines] == ["attn.qkv.weight", "attn.qkv.bias"]
    assert series.lines[0].tensors == (0, 2, 4)
    assert [line.matrix for line in series.lines] == [True, False]


def test_that_blocks_stand_in_the_order_of_their_numbers_whatever_that_of_the_file() -> None:
    (series,) = series_of([f"h.{i}.w.weight" for i in (10, 2, 1)])
    assert series.blocks == ("1", "2", "10")
    assert series.lines[0].tensors == (2, 1, 0)


def test_that_a_block_that_lacks_a_component_leaves_a_gap() -> None:
    keys = ["h.0.a.weight", "h.0.b.weight", "h.1.a.weight", "h.2.a.weight", "h.2.b.weight"]
    (series,) = series_of(keys)
    lines = {line.name: line.places for line in series.lines}
    assert lines == {"a.weight": (0, 1, 2), "b.weight": (0, 2)}


def test_that_encoder_and_decoder_are_two_and_stages_are_also_one() -> None:
    two = series_of([f"{side}.layers.{i}.w.weight" for side in ("encoder", "decoder") for i in range(4)])
    assert sorted(series.name for series in two) == ["decoder.layers", "encoder.layers"]
    stages = series_of([f"layer{stage}.{i}.conv.weight" for stage in (1, 2) for i in range(3)])
    assert stages[0].name == "layer*"
    assert stages[0].blocks == tuple(f"layer{stage}.{i}" for stage in (1, 2) for i in range(3))
    assert stages[0].lines[0].places == (0, 1, 2, 3, 4, 5)
    assert {series.name for series in stages[1:]} == {"layer1", "layer2"}


def test_that_numbers_that_are_no_blocks_make_no_series() -> None:
    assert series_of(["conv1.weight", "fc.weight", "only.0.weight", "a.7.weight"]) == []


def test_that_a_key_of_thousands_of_numbers_takes_no_more_memory_than_a_few_of_its_length() -> None:
    keys = [(at, f"{at}." * 4000 + "w", (2, 2), 4) for at in range(4)]
    tracemalloc.start()
    find_series(keys)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000

"""What a document's worker answers about a checkpoint as a whole."""

from __future__ import annotations

import gc
import json
import weakref
from array import array
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdviewer.core.checkpoint import Checkpoint, StateDict, StorageInfo, ValueInfo
from sdviewer.core.paths import TypedStep
from sdviewer.core.progress import no_progress
from sdviewer.core.tree import build_tree
from sdviewer.engine import overview as module
from sdviewer.engine.client import DocumentWorker
from sdviewer.engine.document import Document
from sdviewer.engine.measuring import measure
from sdviewer.engine.overview import Overview, told_values
from sdviewer.formats import TensorSource, open_checkpoint, open_storage
from sdviewer.stats.row_band import row_band
from sdviewer.stats.table import COLUMNS, StatisticsTable
from tests.core.builders import checkpoint, tensor
from tests.engine.conftest import Answered, ask, write_safetensors

STRIP = 'format = "sdviewer-recipe/1"\n[[step]]\nop = "strip"\nprefix = "module."\n'
DROP = 'format = "sdviewer-recipe/1"\n[[step]]\nop = "drop"\nkeys = ["module.head"]\n'


def overview_of(made: Checkpoint) -> Overview:
    return Overview(made, build_tree(made))


def training() -> Checkpoint:
    """A model of two blocks, its average and Adam's state, an epoch and a metric."""
    model = {f"blocks.{i}.fc.weight": (8, 8) for i in range(2)}
    tensors, dicts = [], []
    for index, (name, role) in enumerate((("model", "model"), ("ema", "ema"))):
        first = len(tensors)
        tensors += [tensor((name, key), key, shape, state_dict=index) for key, shape in model.items()]
        dicts.append(StateDict((name,), role, tuple(model), tuple(range(first, first + 2)), 128, 512))  # type: ignore[arg-type]
    first = len(tensors)
    for number in range(2):
        place = ("optim", "state", TypedStep("int", str(number)))
        for moment in ("exp_avg", "exp_avg_sq"):
            tensors.append(tensor((*place, moment), f"state.{number}.{moment}", (8, 8), state_dict=2))  # type: ignore[arg-type]
    keys = tuple(str(info.key) for info in tensors[first:])
    dicts.append(StateDict(("optim",), "optimizer", keys, tuple(range(first, first + 4)), 256, 1024))
    storages = {str(info.storage): StorageInfo(str(info.storage), 256, 256, 1) for info in tensors}
    values = (
        ValueInfo(("epoch",), "builtins.int", 42),
        ValueInfo(("lr",), "builtins.float", 0.1),
        ValueInfo(("best_acc1",), "builtins.float", 84.31),
    )
    base = checkpoint({}, values=values)
    return replace(base, state_dicts=tuple(dicts), tensors=tuple(tensors), storages=storages, size=8 * 256 + 500)


def test_that_the_head_counts_the_model_and_tells_how_far_the_training_was() -> None:
    head = overview_of(training()).facts()["head"]
    assert (head["parameters"], head["tensors"]) == (128, 2)
    assert (head["weights"], head["average"], head["optimizer"]) == (512, 512, 1024)
    assert head["dtype"] == ["float32", 1.0]
    assert head["told"] == [["epoch", "42"], ["best_acc1", "84.31"]]


def test_that_a_tensor_at_the_top_of_a_training_is_no_part_of_its_model() -> None:
    made = training()
    state = tensor(("rng",), "rng", (1000,), "uint8", state_dict=3, storage="rng")
    root = StateDict((), "model", ("rng",), (len(made.tensors),), 1000, 1000)
    made = replace(made, tensors=(*made.tensors, state), state_dicts=(*made.state_dicts, root))
    head = overview_of(made).facts()["head"]
    assert (head["parameters"], head["tensors"], head["dtype"]) == (128, 2, ["float32", 1.0])


def test_that_bytes_are_told_by_part_and_add_up_to_the_file() -> None:
    told = overview_of(training()).facts()["bytes"]
    assert told["parts"] == [
        ["model", 512, "model"],
        ["average", 512, "average"],
        ["optimizer exp_avg", 512, "optimizer"],
        ["optimizer exp_avg_sq", 512, "optimizer"],
        ["names, values and padding", 500, "rest"],
    ]
    assert told["weights_only"] == 512


def test_that_a_slim_copy_is_offered_where_one_can_be_saved(tmp_path: Path) -> None:
    model, step = {"a.weight": torch.zeros(4, 4)}, {"state": {0: {"exp_avg": torch.zeros(4, 4)}}, "param_groups": []}
    torch.save({"model": model, "optimizer": step}, tmp_path / "both.pt")
    torch.save(model, tmp_path / "one.pt")
    for name, slim in (("both", True), ("one", False)):
        assert overview_of(open_checkpoint(str(tmp_path / f"{name}.pt"))).facts()["bytes"]["slim"] is slim
    assert not overview_of(training()).facts()["bytes"]["slim"]


def test_that_a_storage_of_model_and_average_is_counted_once_and_what_nobody_uses_apart() -> None:
    made = training()
    shared = made.tensors[2]._replace(storage=made.tensors[0].storage)
    storages = {key: one for key, one in made.storages.items() if key != made.tensors[2].storage}
    storages[str(made.tensors[1].storage)] = StorageInfo("x", 456, 256, 1)
    made = replace(made, tensors=(*made.tensors[:2], shared, *made.tensors[3:]), storages=storages)
    parts = {name: nbytes for name, nbytes, _ in overview_of(made).facts()["bytes"]["parts"]}
    assert parts["model"] == 512
    assert parts["average"] == 256
    assert parts["belongs to no tensor"] == 200


def test_that_tiles_are_those_of_the_model_and_say_what_they_leave_out() -> None:
    facts = overview_of(training()).facts()
    assert [tile[1] for group in facts["groups"] for tile in group[4]] == ["0.fc", "1.fc"]
    assert facts["left_out"] == "averages and optimizer"


def test_that_values_that_are_no_progress_are_not_told() -> None:
    values = [
        ValueInfo(("args", "epochs"), "builtins.int", 100),
        ValueInfo(("lr",), "builtins.float", 0.1),
        ValueInfo(("is_best",), "builtins.bool", True),
        ValueInfo(("best_acc1",), "builtins.str", "high"),
        ValueInfo(("val_loss",), "builtins.float", 0.25),
    ]
    assert told_values(checkpoint({}, values=values)) == [("val_loss", "0.25")]


def test_that_a_file_of_values_and_an_empty_one_are_told() -> None:
    made = overview_of(checkpoint({}, values=[ValueInfo(("epoch",), "builtins.int", 3)]))
    facts = made.facts()
    assert facts["groups"] == []
    assert facts["head"]["dtype"] is None
    assert made.state(None)["findings"] == []
    assert made.depth(None, 0, "std", "weights")["chosen"] == -1


def test_that_lines_have_the_numbers_and_rows_of_their_tensors(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scale = [1.0, 2.0, 4.0]
    tensors = {f"h.{i}.fc.weight": rng.normal(size=(20, 20)) * scale[i] for i in range(3)}
    made = open_checkpoint(write_safetensors(tmp_path / "m.safetensors", tensors))
    overview = overview_of(made)
    table = StatisticsTable(3)
    first = overview.depth(table, 0, "std", "weights")
    assert first["lines"][0]["values"] == [None, None, None]
    table.put([0, 1, 2], measure(made, [0, 1, 2]))
    body = overview.depth(table, 0, "std", "weights")
    (line,) = body["lines"]
    assert line["name"] == "fc"
    expected = [float(values.astype("f4").std()) for values in tensors.values()]
    np.testing.assert_allclose(line["values"], expected, rtol=1e-5)
    tree = build_tree(made)
    assert [tree.path_text[row] for row in line["rows"]] == list(tensors)
    largest = overview.depth(table, 0, "largest", "weights")["lines"][0]["values"]
    np.testing.assert_allclose(largest, [np.abs(values.astype("f4")).max() for values in tensors.values()])
    state = overview.state(table)
    assert (state["known"], state["total"]) == (3, 3)
    np.testing.assert_allclose(state["std"], expected, rtol=1e-5)


def test_that_the_tensors_of_a_band_are_those_that_its_line_is_drawn_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    tensors = {f"h.{i}.{name}.weight": rng.normal(size=(20, n)) for i in range(4) for name, n in (("a", 30), ("b", 10))}
    made = open_checkpoint(write_safetensors(tmp_path / "m.safetensors", tensors))
    overview, table = overview_of(made), StatisticsTable(8)
    assert overview.band(table, 0, "weights", 1) == []
    table.put([1, 3, 7], measure(made, [1, 3, 7]))
    points = overview.band(table, 0, "weights", 1)
    assert [(place, at) for place, at, _ in points] == [(0, 1), (1, 3), (3, 7)]
    with open_storage(TensorSource.from_json(points[2][2])) as storage:
        found = row_band(storage, TensorSource.from_json(points[2][2]).layout)
    expected = np.quantile(tensors["h.3.b.weight"].astype("f4").std(axis=1), (0.05, 0.95))
    np.testing.assert_allclose(found.std, expected, rtol=1e-5)  # type: ignore[union-attr, arg-type]
    for series, kind, line in ((0, "weights", 2), (0, "weights", -1), (1, "weights", 0), (0, "vectors", 0), (0, "", 0)):
        assert overview.band(table, series, kind, line) == []
    monkeypatch.setattr(module, "MOST_BLOCKS", 2)
    assert [(place, at) for place, at, _ in overview.band(table, 0, "weights", 1)] == [(0, 1)]


def test_that_every_row_has_its_place_among_tiles_and_across_depth() -> None:
    keys = {f"h.{i}.{name}": shape for i in range(6) for name, shape in (("fc.weight", (20, 30)), ("fc.bias", (20,)))}
    made = checkpoint({"embed.weight": (50, 30), **keys, "norm.weight": (4,), "norm.bias": (4,)})
    overview = overview_of(made)
    tree = overview.tree
    tiles = [tile for group in overview._groups for tile in group.tiles]

    def place(row: int) -> tuple[str, Any]:
        found = overview.place(row)
        return tree.name[tiles[found["tile"]].row] if found["tile"] >= 0 else "", found["depth"]

    row = {tree.path_text[row]: row for row in range(len(tree))}
    weight = {"series": 0, "kind": "weights", "line": 0, "place": 3}
    assert place(row["h.3.fc.weight"]) == ("3.fc", weight)
    assert place(row["h.3.fc.bias"]) == ("3.fc", {**weight, "kind": "vectors"})
    assert place(row["3.fc"]) == ("3.fc", weight)
    assert place(row["embed.weight"]) == ("embed.weight", None)
    assert place(row["norm.bias"])[0] == "norm"
    assert place(row["0 – 5"])[0] == "0.fc"


def test_that_what_is_put_together_has_its_tile_and_an_optimizer_none() -> None:
    small = {f"m{i}.{name}": (2,) for i in range(60) for name in "abc"}
    overview = overview_of(checkpoint({"big.weight": (900, 900), **small, "end.weight": (900, 900)}))
    tree, tiles = overview.tree, [tile for group in overview._groups for tile in group.tiles]
    together = next(at for at, tile in enumerate(tiles) if tile.modules > 1)
    first, last = tiles[together].row, tiles[together].row + 1
    while last < len(tree) and last not in [tile.row for tile in tiles]:
        last += 1
    assert last - first > 4
    assert {overview.place(row)["tile"] for row in range(first, last)} == {together}
    overview = overview_of(training())
    row = list(overview.tree.tensor).index(4)
    found = overview.place(row)
    assert (found["tile"], found["depth"]) == (-1, None)
    assert "has no tile" in found["words"]


def test_that_small_modules_of_a_block_are_found_on_the_tile_of_all_of_them() -> None:
    block = {"n1.weight": (64,), "fc.weight": (64, 64), "n2.weight": (64,), "fd.weight": (64, 64), "n3.weight": (8,)}
    overview = overview_of(checkpoint({f"h.{i}.{name}": shape for i in range(3) for name, shape in block.items()}))
    tree, tiles = overview.tree, [tile for group in overview._groups for tile in group.tiles]
    assert any(tile.modules == 3 for tile in tiles)
    for i in range(3):
        rows = [tree.path_text.index(f"h.{i}.n{n}.weight") for n in (1, 2, 3)]
        (tile,) = {overview.place(row)["tile"] for row in rows}
        assert (tiles[tile].row, tiles[tile].modules) == (rows[0], 3)


def test_that_of_many_blocks_each_nth_is_told() -> None:
    body = overview_of(checkpoint({f"h.{i}.w.weight": (2, 2) for i in range(1000)})).depth(None, 0, "std", "weights")
    assert body["every"] == 3
    assert len(body["blocks"]) == 334
    assert body["lines"][0]["places"] == list(range(334))


def test_that_equal_tensors_are_offered_to_be_compared_once_all_is_known(tmp_path: Path) -> None:
    same = np.random.default_rng(0).normal(size=(4, 4))
    made = open_checkpoint(write_safetensors(tmp_path / "m.safetensors", {"a": same, "b": same, "c": same + 1}))
    overview = overview_of(made)
    table = StatisticsTable(3)
    table.put([0, 1], measure(made, [0, 1]))
    assert overview.state(table)["candidates"] == []
    table.put([2], measure(made, [2]))
    assert [at for at, _ in overview.state(table)["candidates"]] == [0, 1]
    overview.digests.update({0: "x", 1: "x"})
    state = overview.state(table)
    assert state["candidates"] == []
    assert [one["title"] for one in state["findings"]] == ["2 tensors are equal bit for bit"]


def test_that_the_worker_answers_and_follows_the_recipe(document: DocumentWorker, model_file: Path) -> None:
    def names() -> list[str]:
        body = ask(document, "overview").body
        assert body is not None
        return [group[1] for group in body["groups"]]

    assert names() == ["module.blocks.0", "module.blocks.1", "module.blocks.2", "module.head"]
    answer = Answered()
    document.edit(STRIP, [], answer.done, answer.failed, strict=True)
    answer.wait()
    assert names() == ["blocks.0", "blocks.1", "blocks.2", "head"]
    answer = Answered()
    document.edit(DROP, [], answer.done, answer.failed, strict=True)
    answer.wait()
    assert names() == ["module.blocks.0", "module.blocks.1", "module.blocks.2"]
    state = ask(document, "overview_state").body
    assert state is not None
    assert (state["known"], state["total"]) == (0, 7)


def test_that_what_the_survey_measured_reaches_the_overview(document: DocumentWorker, model_file: Path) -> None:
    made = open_checkpoint(str(model_file))
    columns: dict[str, Any] = {name: np.ascontiguousarray(found) for name, found in measure(made, [6]).items()}
    answer = Answered()
    buffers = {"indices": np.array([6], "i8"), **{name: columns[name] for name in COLUMNS}}
    params = {"columns": [], "refresh": False, "identity": asdict(made.identity)}
    document.request("statistics", params, answer.done, answer.failed, answer.progressed, buffers=buffers)
    assert answer.wait().failure is None
    state = ask(document, "overview_state").body
    assert state is not None
    assert state["known"] == 1
    assert state["std"][-1] == float(columns["std"][0])


def test_that_several_rows_are_revealed_at_once(document: DocumentWorker) -> None:
    answer = Answered()
    document.edit("", [], answer.done, answer.failed, strict=True)
    answer.wait()
    before = _rows(ask(document, "rows", all="collapse"))
    shown = _rows(ask(document, "rows", rows=[5, 9]))
    assert not {5, 9} <= set(before)
    assert {5, 9} <= set(shown)


def _rows(answer: Answered) -> list[int]:
    rows = array("i")
    rows.frombytes(bytes(answer.buffers["visible"]))
    return rows.tolist()


def test_that_the_tree_before_an_edit_is_not_kept_for_the_overviews_behind_it() -> None:
    made = training()
    one = overview_of(made)
    series = one.series
    two = Overview(made, build_tree(made), made, one)
    gone = weakref.ref(two)
    three = Overview(made, build_tree(made), made, two)
    del two
    gc.collect()
    assert gone() is None
    assert three.series is series


def test_that_the_name_of_an_unknown_dtype_is_made_printable() -> None:
    made = training()
    odd = "x\n<b>\u202e" + "y" * 1000
    made = replace(made, tensors=tuple(info._replace(dtype=odd) for info in made.tensors))
    facts = overview_of(made).facts()
    told = [tile[3] for group in facts["groups"] for tile in group[4]] + [row[0] for row in facts["kinds"][0][1]]
    assert told
    assert all(name.isprintable() and len(name) < 200 for name in told)


def test_that_an_optimizer_with_a_name_for_each_tensor_is_few_parts_of_the_bytes() -> None:
    made = training()
    names = [f"moment_{at}" for at in range(50)]
    places = [("optim", "state", TypedStep("int", "0"), name) for name in names]
    tensors = tuple(tensor(place, None, (8, 8), state_dict=2) for place in places)  # type: ignore[arg-type]
    storages = {str(info.storage): StorageInfo(str(info.storage), 256, 256, 1) for info in tensors}
    made = replace(made, tensors=tensors, storages=storages, size=50 * 256)
    parts = overview_of(made).facts()["bytes"]["parts"]
    assert len(parts) < 20
    assert sum(nbytes for _, nbytes, _ in parts) == 50 * 256
    assert "optimizer, others" in [name for name, *_ in parts]


def test_that_a_shape_that_no_tensor_has_spoils_neither_the_tiles_nor_the_tables(tmp_path: Path) -> None:
    header = {
        "a.w": {"dtype": "F32", "shape": [10**200, 10**200], "data_offsets": [0, 4]},
        "b.w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
    }
    raw = json.dumps(header).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(8))
    facts = overview_of(open_checkpoint(str(path))).facts()
    assert facts["head"]["tensors"] == 2
    assert [name for _, name, *_ in facts["groups"]] == ["a.w", "b.w"]


def test_that_no_more_is_read_to_compare_than_was_decided_however_often_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_COMPARED", 5)
    rng = np.random.default_rng(0)
    three, two, others = rng.normal(size=(6, 6)), rng.normal(size=(4, 4)), rng.normal(size=(2, 2))
    tensors = {f"three.{at}": three for at in range(3)} | {f"two.{at}": two for at in range(2)}
    made = open_checkpoint(write_safetensors(tmp_path / "m.safetensors", {**tensors, "o.1": others, "o.2": others}))
    overview = overview_of(made)
    number = len(made.tensors)
    table = StatisticsTable(number)
    table.put(range(number), measure(made, range(number)))
    asked = [at for at, _ in overview.state(table)["candidates"]]
    assert len(asked) == 5
    overview.digests.update(dict.fromkeys(asked, "x"))
    assert overview.state(table)["candidates"] == []


def test_that_what_was_compared_in_the_file_before_is_left_out(tmp_path: Path) -> None:
    same = np.random.default_rng(0).normal(size=(4, 4))
    path = write_safetensors(tmp_path / "m.safetensors", {"a": same, "b": same})
    document = Document()
    document.open({"path": str(path)}, no_progress)
    made = document.checkpoint
    identity = asdict(made.identity)
    columns = {name: column.tobytes() for name, column in measure(made, [0, 1]).items()}
    params = {"columns": [], "identity": identity, "indices": np.array([0, 1], "i8").tobytes(), **columns}
    document.statistics(params, no_progress)
    for which, left in (({**identity, "mtime_ns": 1}, 2), (identity, 0)):
        document.requests["overview_equal"]({"digests": {"0": "x", "1": "x"}, "identity": which}, no_progress)
        assert len(document.requests["overview_state"]({}, no_progress).body["candidates"]) == left

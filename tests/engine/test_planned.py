"""How the tree and the facts tell of what a recipe computes, changes and leaves out."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sdviewer.core import sheet as sheets
from sdviewer.core.sheet import Sheet
from sdviewer.engine.client import DocumentWorker
from sdviewer.engine.planned import element_texts
from sdviewer.repair.history import Draft, History, Step
from sdviewer.repair.operations import operation_from_step
from tests.engine.conftest import Answered, ask


@pytest.fixture
def training(tmp_path: Path) -> Iterator[DocumentWorker]:
    """A training checkpoint with a model, an EMA, an optimizer, a scheduler and plain values."""
    model = {
        **{f"b.{part}.weight": torch.arange(12.0).reshape(4, 3) + n for n, part in enumerate("qkv")},
        "head.weight": torch.arange(12.0).reshape(3, 4),
        "scale": torch.tensor(2.5),
        "steps": torch.tensor([1, 2, 3]),
    }
    whole = {
        "model": model,
        "ema": {key: value + 1 for key, value in model.items()},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "scheduler": {"last_epoch": 3, "gamma": 0.5},
        "epoch": 3,
        "lr": 0.1,
        "notes": "two\nlines",
    }
    path = tmp_path / "training.pth"
    torch.save(whole, path)
    worker = DocumentWorker(str(path))
    opened = Answered()
    worker.open(opened.done, opened.failed)
    assert opened.wait().failure is None
    yield worker
    worker.stop()


class Rows:
    """The sheet after a recipe, by name."""

    def __init__(self, worker: DocumentWorker, *steps: dict[str, Any]) -> None:
        history = History()
        for step in steps:
            history = history.add(Step.of(operation_from_step(step)), "model")
        self.draft: Draft = history.draft
        self.worker = worker
        answer = Answered()
        text = "" if self.draft.is_empty else self.draft.to_text()
        worker.edit(text, [], answer.done, answer.failed, strict=True)
        assert answer.wait().failure is None, answer.failure
        assert answer.body is not None
        self.sheet = Sheet.from_buffers(answer.buffers, tuple(answer.body["dtypes"]))
        self.flags = array("B", bytes(answer.buffers["flags"]))
        self.count = int(answer.body["rows_total"])

    def row(self, name: str, nth: int = 0) -> int:
        return [row for row in range(self.count) if self.sheet.name(row) == name][nth]

    def told(self, name: str) -> tuple[str, str, str]:
        row = self.row(name)
        return self.sheet.note(row), self.sheet.shape(row), self.sheet.dtype(row)

    def has(self, name: str, bits: int) -> bool:
        return self.flags[self.row(name)] & (sheets.EDITED | sheets.DROPPED | sheets.PROBLEM) == bits

    def facts(self, name: str, nth: int = 0) -> Any:
        return ask(self.worker, "facts", row=self.row(name, nth)).body

    def ask(self, name: str, **params: Any) -> Any:
        return ask(self.worker, name, **params)


FUSE = {"op": "fuse", "from": ["b.q.weight", "b.k.weight", "b.v.weight"], "into": "b.qkv.weight"}
SPLIT = {"op": "split", "from": "{x}.q.weight", "into": ["{x}.one", "{x}.two"]}


def test_that_parts_go_into_what_they_are_joined_to_and_are_not_dropped(training: DocumentWorker) -> None:
    rows = Rows(training, FUSE)
    assert rows.told("qkv.weight") == ("from q.weight and 2 more", "→ 12×3", "f32")
    assert rows.has("qkv.weight", sheets.EDITED)
    assert rows.told("k.weight") == ("into qkv.weight", "4×3", "f32")
    assert rows.has("k.weight", sheets.EDITED | sheets.DROPPED)
    made = rows.facts("qkv.weight")["made"]
    assert [key for key, _, _ in made["from"]] == ["b.q.weight", "b.k.weight", "b.v.weight"]
    assert made["steps"] == [[1, 'Fuse "b.q.weight", "b.k.weight", "b.v.weight" into "b.qkv.weight"']]
    assert rows.facts("qkv.weight")["unreadable"] == ""
    assert rows.facts("k.weight")["dropped"]


def test_that_new_shapes_and_dtypes_are_told_as_changed_with_what_they_were(training: DocumentWorker) -> None:
    cast = {"op": "cast", "dtype": "bfloat16", "keys": ["head.weight"]}
    rows = Rows(training, {"op": "transpose", "keys": ["head.weight"]}, cast, SPLIT)
    assert rows.told("head.weight") == ("was 3×4 f32", "→ 4×3", "→ bf16")
    assert rows.told("two") == ("from q.weight", "→ 2×3", "f32")
    assert rows.has("two", sheets.EDITED)
    assert rows.told("k.weight") == ("", "4×3", "f32")
    assert rows.has("k.weight", 0)
    assert [step for _, step in rows.facts("head.weight")["made"]["steps"]] == ["Transpose", "Cast to bfloat16"]
    rows = Rows(training, {"op": "add", "key": "head.bias", "like": "head.weight[0]"})
    assert rows.told("bias")[0] == "new"
    assert rows.facts("bias")["made"]["from"] == []


def test_that_a_selection_stays_on_a_tensor_that_becomes_computed(training: DocumentWorker) -> None:
    before = Rows(training)
    selected = [before.row("head.weight"), before.row("q.weight")]
    answer = Answered()
    steps = Rows(training, {"op": "transpose", "keys": ["head.weight"]}, SPLIT)
    Rows(training)
    training.edit(steps.draft.to_text(), selected, answer.done, answer.failed, strict=True)
    assert answer.wait().body is not None
    assert answer.body is not None
    assert answer.body["selected"] == [steps.row("head.weight"), steps.row("one")]
    second = [steps.row("two")]
    more = Rows(training, *[step.table for step in steps.draft.steps], {"op": "scale", "factor": 2.0})
    text = more.draft.to_text()
    training.edit(steps.draft.to_text(), [], Answered().done, Answered().failed, strict=True)
    answer = Answered()
    training.edit(text, second, answer.done, answer.failed, strict=True)
    assert answer.wait().body is not None
    assert answer.body is not None
    assert answer.body["selected"] == [more.row("two")]


def test_that_a_changed_value_and_what_is_left_out_are_seen_in_the_tree(training: DocumentWorker) -> None:
    value, gone = {"op": "set_value", "path": "epoch", "value": 4}, {"op": "leave_out", "paths": ["optimizer", "lr"]}
    rows = Rows(training, value, gone)
    assert rows.told("epoch")[0] == "4 · was 3"
    assert rows.has("epoch", sheets.EDITED)
    facts = rows.facts("epoch")
    assert (facts["value"], facts["plain"]["value"], facts["changed"]) == ("4", 4, "4 · was 3")
    for name in ("optimizer", "exp_avg", "lr"):
        assert rows.has(name, sheets.DROPPED), name
    assert rows.facts("lr", 1)["plain"] is None
    assert rows.has("scheduler", 0)


def test_that_only_plain_values_of_one_line_can_be_edited(training: DocumentWorker) -> None:
    rows = Rows(training)
    assert rows.facts("epoch")["plain"] == {"path": "epoch", "type": "int", "value": 3}
    assert rows.facts("gamma")["plain"]["path"] == "scheduler.gamma"
    assert rows.facts("notes")["plain"] is None
    assert rows.facts("head.weight")["plain"] is None


def step_of(rows: Rows, act: str, *names: str) -> Any:
    answer = rows.ask("step", act=act, rows=[rows.row(name) for name in names])
    return answer.body["step"] if answer.body is not None else answer.failure["message"]


def test_that_what_stands_beside_the_model_is_left_out_by_a_step_of_its_own(training: DocumentWorker) -> None:
    rows = Rows(training)
    beside = step_of(rows, "drop", "optimizer", "ema", "scheduler", "epoch")
    assert beside == {"op": "leave_out", "paths": ["ema", "optimizer", "scheduler", "epoch"]} | beside
    assert sorted(beside["paths"]) == ["ema", "epoch", "optimizer", "scheduler"]
    assert step_of(rows, "drop", "gamma") == {"op": "leave_out", "paths": ["scheduler.gamma"]}
    assert step_of(rows, "drop", "state")["paths"] == ["optimizer.state"]
    assert step_of(rows, "drop", "head.weight") == {"op": "drop", "keys": ["head.weight"]}
    assert "one step" in step_of(rows, "drop", "optimizer", "head.weight")
    kept = step_of(rows, "keep", "model")
    assert sorted(kept["paths"]) == ["ema", "epoch", "lr", "notes", "optimizer", "scheduler"]
    assert step_of(rows, "keep", "head.weight") == {"op": "keep", "keys": ["head.weight"]}
    assert "cannot be left out" in step_of(rows, "keep", "scheduler")
    Rows(training, kept)  # and it goes through
    kept = step_of(Rows(training), "keep", "ema")
    assert sorted(kept["paths"]) == ["epoch", "lr", "model", "notes", "optimizer", "scheduler"]
    rows = Rows(training)
    inside = [row for row in range(rows.count) if rows.sheet.name(row) == "scale"]
    assert [ask(training, "step", act="drop", rows=[row]).body["step"]["op"] for row in inside] == ["drop", "drop"]


@pytest.mark.parametrize(
    ("name", "at", "typed", "value", "warning", "error"),
    [
        ("head.weight", [1, 2], "0.1", 0.10000000149011612, "", ""),
        ("head.weight", [1, 2], "1.00000001", 1.0, "float32 has no 1.00000001: it becomes 1.0.", ""),
        ("head.weight", [0, 0], "nan", "nan", "", ""),
        ("head.weight", [0, 0], "-inf", "-inf", "", ""),
        ("head.weight", [0, 0], "1e39", None, "", "whose largest is 3.40282e+38"),
        ("head.weight", [0, 0], "abc", None, "", "is no number"),
        ("scale", [], "3", 3.0, "", ""),
        ("steps", [2], "7", 7, "", ""),
        ("steps", [2], "7.5", 8, "int64 has no 7.5: it becomes 8.", ""),
        ("steps", [2], "9223372036854775807", 9223372036854775807, "", ""),
        ("steps", [2], "9223372036854775808", None, "", "which holds"),
        ("steps", [2], "nan", None, "", "which holds whole numbers"),
    ],
)
def test_that_a_number_is_taken_exactly_or_what_it_would_become_is_said(
    training: DocumentWorker, name: str, at: list[int], typed: str, value: Any, warning: str, error: str
) -> None:
    rows = Rows(training)
    body = rows.ask("cell", row=rows.row(name), at=at, text=typed).body
    assert error in body["error"]
    assert bool(body["error"]) == bool(error)
    assert body["warning"] == warning
    if value is None:
        assert body["step"] is None
        return
    assert body["step"]["value"] == value
    assert type(body["step"]["value"]) is type(value)
    operation_from_step(body["step"])
    Rows(training, body["step"])  # exact: taken without `round`


def test_that_numbers_written_into_a_tensor_are_told_and_those_of_the_file_stay(training: DocumentWorker) -> None:
    first = {"op": "edit", "key": "head.weight", "at": [1], "value": 5.0}
    second = {"op": "edit", "key": "head.weight", "at": [1, 2], "value": 0.5}
    rows = Rows(training, first, second)
    facts = rows.facts("head.weight")
    assert facts["made"]["writes"] == [[[1], ["5.0"]], [[1, 2], ["0.5"]]]
    assert facts["source"] is not None
    assert rows.told("head.weight")[0] == "numbers edited"
    scaled = Rows(training, first, {"op": "scale", "factor": 2.0, "keys": ["head.weight"]})
    facts = scaled.facts("head.weight")
    assert facts["made"]["writes"] is None
    assert facts["source"] is None
    assert len(facts["made"]["steps"]) == 2


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float8_e4m3fn", "int8", "bool", "complex64"])
def test_that_an_element_reads_as_torch_says_it(dtype: str) -> None:
    tensor = torch.tensor([1.5, 0.0]).to(getattr(torch, dtype))
    raw = bytes(tensor.view(torch.uint8).tolist())
    assert [complex({"True": "1", "False": "0"}.get(words, words)) for words in element_texts(raw, dtype)] == [
        complex(x) for x in tensor.tolist()
    ]


def test_that_a_file_is_read_again_with_a_recipe_that_computes(training: DocumentWorker) -> None:
    steps = Rows(training, FUSE, SPLIT | {"from": "{x}.qkv.weight"})
    again = Answered()
    training.open(again.done, again.failed, recipe=steps.draft.to_text())
    assert again.wait().failure is None
    assert again.body is not None
    assert again.body["edit"]["computed"] == 2
    assert [label for label, _, _ in again.body["info"]["chips"]][:2] == ["All", "Weights"]
    sheet = Sheet.from_buffers(again.buffers, tuple(again.body["dtypes"]))
    row = next(row for row in range(again.body["rows_total"]) if sheet.name(row) == "one")
    shown = ask(training, "rows", filter="shape:=6×3 dtype:f32").body
    assert shown is not None
    assert shown["matched"] == 2
    assert ask(training, "alike", row=row, by="shape").body == {"filter": "shape:=6×3"}

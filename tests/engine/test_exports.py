"""Tensors taken out of a document, as the window asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdviewer.core.sheet import Sheet
from sdviewer.engine.client import DocumentWorker
from tests.engine.conftest import Answered, ask

RENAMED = """format = "sdviewer-recipe/1"
[[step]]
op = "strip"
prefix = "module."
[[step]]
op = "cast"
dtype = "float64"
keys = ["head"]
[[step]]
op = "drop"
keys = ["blocks.1.*"]
"""


def sheet_of(document: DocumentWorker, recipe: str) -> Sheet:
    answer = ask(document, "edit", recipe=recipe, selected=[])
    assert answer.body is not None
    return Sheet.from_buffers(answer.buffers, tuple(answer.body["dtypes"]))


def row_of(sheet: Sheet, name: str) -> int:
    return next(row for row in range(len(sheet)) if sheet.name(row) == name)


def exported(document: DocumentWorker, out: Path, rows: list[int], recipe: str = "", **more: Any) -> Answered:
    opened = Answered()
    document.open(opened.done, opened.failed, recipe=recipe)
    body = opened.wait().body
    assert body is not None
    params = {"recipe": recipe, "identity": body["info"]["identity"], "rows": rows, "out": str(out), "kind": "npz"}
    answer = Answered()
    document.export(
        {**params, "raw": False, "overwrite": False, "split_names": False, **more}, answer.done, answer.failed
    )
    return answer.wait()


def test_that_a_module_is_taken_under_the_keys_that_the_recipe_gives(document: DocumentWorker, tmp_path: Path) -> None:
    sheet = sheet_of(document, RENAMED)
    out = tmp_path / "model.npz"
    answer = exported(document, out, [row_of(sheet, "model")], RENAMED)
    assert answer.body is not None
    assert answer.body["checks"]
    found = np.load(out)
    assert set(found) == {"blocks.0.a", "blocks.0.b", "blocks.2.a", "blocks.2.b", "head"}
    assert found["head"].dtype == np.float64
    assert found["blocks.0.a"].dtype == np.float32


def test_that_what_is_selected_itself_is_taken_though_the_recipe_drops_it(
    document: DocumentWorker, tmp_path: Path
) -> None:
    sheet = sheet_of(document, RENAMED)
    dropped = next(row for row in range(len(sheet)) if sheet.name(row).endswith("1")) + 1
    answer = exported(document, tmp_path / "a.npy", [dropped], RENAMED, kind="npy")
    assert answer.body is not None, answer.failure


def test_that_rows_inside_of_others_count_once(document: DocumentWorker) -> None:
    sheet = sheet_of(document, "")
    rows = [row_of(sheet, "blocks"), row_of(sheet, "1"), row_of(sheet, "head")]
    body = ask(document, "would_export", rows=rows, kind="npz", raw=False).body
    assert body is not None
    assert (body["tensors"], body["nbytes"], body["error"]) == (7, 51 * 4, None)


def test_that_what_cannot_be_is_said_before(document: DocumentWorker) -> None:
    sheet = sheet_of(document, "")
    body = ask(document, "would_export", rows=[row_of(sheet, "blocks")], kind="npy", raw=False).body
    assert body is not None
    assert "holds one tensor" in body["error"]["message"]
    assert body["name"] == "module.blocks"


def test_that_a_file_that_changed_is_not_taken_from(document: DocumentWorker, tmp_path: Path) -> None:
    answer = exported(document, tmp_path / "x.npz", [0], identity={"device": 0})
    assert answer.failure is not None
    assert answer.failure["code"] == "file_changed"
    assert not (tmp_path / "x.npz").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_that_a_file_that_is_there_is_asked_about(document: DocumentWorker, tmp_path: Path, overwrite: bool) -> None:
    out = tmp_path / "x.npz"
    out.write_bytes(b"mine")
    answer = exported(document, out, [0], overwrite=overwrite)
    assert (answer.failure is None) == overwrite
    assert (out.read_bytes() == b"mine") != overwrite


def test_that_rows_are_told_as_a_table(document: DocumentWorker) -> None:
    sheet = sheet_of(document, RENAMED)
    body = ask(document, "row_texts", rows=[row_of(sheet, "head"), row_of(sheet, "blocks")], limit=10).body
    assert body is not None
    lines = [line.split("\t") for line in body["text"].splitlines()]
    assert lines[0] == ["key", "shape", "dtype", "params", "bytes", "note"]
    assert lines[1][0] == "blocks"
    assert lines[2][:5] == ["head", "3", "→ f64", "3", "24"]

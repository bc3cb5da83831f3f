"""What the worker answers about edits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sdviewer.engine.client import DocumentWorker
from tests.engine.conftest import Answered, ask
from tests.gui.conftest import write_checkpoint

MODEL = {
    **{f"blocks.{i}.fc.weight": (8, 4) for i in range(12)},
    **{f"blocks.{i}.fc.bias": (8,) for i in range(12)},
    "layers.11.mlp.bias": (8,),
    "head.weight": (3, 4),
    "head.bias": (3,),
}


@pytest.fixture
def model(tmp_path: Path) -> Any:
    worker = DocumentWorker(str(write_checkpoint(tmp_path / "model.safetensors", MODEL)))
    opened = Answered()
    worker.open(opened.done, opened.failed)
    opened.wait()
    yield worker
    worker.stop()


def body(worker: DocumentWorker, name: str, **params: Any) -> Any:
    answer = ask(worker, name, **params)
    assert answer.failure is None, answer.failure
    return answer.body


def row_of(worker: DocumentWorker, wanted: str) -> int:
    """The row of a key, or of a module by its prefix."""
    for row in range(200):
        found = body(worker, "facts", row=row)
        if wanted in (found["key"], found["prefix"]):
            return row
    raise AssertionError(wanted)


def preview(worker: DocumentWorker, step: dict[str, Any], **params: Any) -> Any:
    return body(worker, "preview", recipe=params.pop("recipe", ""), step=step, limit=50, **params)


def after(worker: DocumentWorker, step: dict[str, Any]) -> list[str]:
    """The keys of the file after a step."""
    found = body(worker, "edit", recipe=json.dumps({"format": "sdviewer-recipe/1", "step": [step]}), selected=[])
    assert found["edit"]["failed"] is None
    return list(body(worker, "keys", rows=[0], limit=100)["keys"])


FIND = {"op": "replace", "find": r"blocks\.(\d+)\.fc\.", "with": r"layers.\1.mlp.", "syntax": "regex"}


def test_that_a_step_can_be_taken_without_the_key_that_collides(model: DocumentWorker) -> None:
    shown = preview(model, FIND, skip=True)
    assert (shown["changed"], shown["blocked"], shown["keys"]) == (24, 1, 27)
    old, new, shape, problem = shown["rows"][0]
    assert old == [["blocks.", "gone"], ["11", "carried"], [".fc.", "gone"], ["bias", "kept"]]
    assert new == [["layers.", "new"], ["11", "carried"], [".mlp.", "new"], ["bias", "kept"]]
    assert shape == "8"
    assert "which is a key already" in problem
    assert all(not row[3] for row in shown["rows"][1:])
    assert shown["skip"]["keys"] == 1
    keys = after(model, shown["skip"]["step"])
    assert "blocks.11.fc.bias" in keys
    assert "layers.11.mlp.weight" in keys
    assert sum(key.startswith("layers.") for key in keys) == 24


def test_that_keys_are_left_out_until_nothing_is_in_the_way_any_more(model: DocumentWorker) -> None:
    # Every block becomes the next one; the last one has no room, so the one before it has none either, and so on.
    step = {
        "op": "rename",
        "rules": [["blocks.11.fc.bias", "head.bias"], ["blocks.{i}.fc.bias", "blocks.{i+1}.fc.bias"]],
    }
    shown = preview(model, step, skip=True)
    assert shown["blocked"] == 1
    assert shown["skip"] is None  # nothing would be left


def test_that_a_scope_restricts_a_step_to_what_was_chosen(model: DocumentWorker) -> None:
    step = {"op": "replace", "find": "bias", "with": "offset"}
    head = row_of(model, "head.")
    below = preview(model, step, scope={"kind": "rows", "rows": [head]})
    assert below["changed"] == 1
    assert below["step"]["keys"] == ["head.**"]
    rows = [row_of(model, "blocks.0.fc.bias"), row_of(model, "head.bias")]
    chosen = preview(model, step, scope={"kind": "rows", "rows": rows})
    assert chosen["step"]["keys"] == ["blocks.0.fc.bias", "head.bias"]
    everything = preview(model, step, scope={"kind": "rows", "rows": [0]})
    assert "keys" not in everything["step"]
    assert everything["changed"] == 14


@pytest.mark.parametrize(
    ("wanted", "changed"), [("blocks.1", 3), ("bias -head", 13), ("head.*", 1), ("/^head/", 1), ("shape:3", 1)]
)
def test_that_what_a_filter_finds_can_be_the_scope(model: DocumentWorker, wanted: str, changed: int) -> None:
    body(model, "rows", filter=wanted)
    shown = preview(model, {"op": "replace", "find": "bias", "with": "offset"}, scope={"kind": "filter"})
    assert (shown["error"], shown["changed"]) == ("", changed)
    body(model, "rows", filter="")
    assert sum(key.endswith("offset") for key in after(model, shown["step"])) == changed


def test_that_a_wrong_expression_and_one_that_takes_for_ever_are_told(model: DocumentWorker) -> None:
    wrong = preview(model, {"op": "replace", "find": "(", "with": "", "syntax": "regex"})
    assert "no regular expression" in wrong["error"]
    slow = preview(model, {"op": "replace", "find": r"(([a-z0-9.]+)+)+\!", "with": "", "syntax": "regex"})
    assert "too long" in slow["error"]
    assert preview(model, {"op": "replace", "find": "head", "with": "fc"})["changed"] == 2


def test_that_further_rows_of_a_preview_come_in_pages(model: DocumentWorker) -> None:
    step = {"op": "prefix", "add": "model."}
    first = body(model, "preview", recipe="", step=step, limit=10)
    assert (len(first["rows"]), first["total"]) == (10, 27)
    rest = body(model, "preview", start=10, limit=50)
    assert [len(rest["rows"]), rest["start"]] == [17, 10]
    assert not any(row in first["rows"] for row in rest["rows"])


def test_that_rows_become_one_step_whatever_they_are(model: DocumentWorker) -> None:
    head, block, bias = (row_of(model, key) for key in ("head.", "blocks.3.fc.", "blocks.4.fc.bias"))
    dropped = body(model, "step", act="drop", rows=[block, head, bias, row_of(model, "head.bias")])
    assert set(dropped["step"]["keys"]) == {"head.**", "blocks.3.fc.**", "blocks.4.fc.bias"}
    fold = next(row for row in range(60) if body(model, "facts", row=row)["kind"] == "fold")
    keys = after(model, body(model, "step", act="drop", rows=[fold])["step"])
    assert sorted(keys) == ["head.bias", "head.weight", "layers.11.mlp.bias"]


def test_that_rows_are_moved_below_another_module_in_one_step(model: DocumentWorker) -> None:
    head, block = row_of(model, "head."), row_of(model, "blocks.3.fc.")
    one = body(model, "step", act="move", rows=[block], to=head)
    assert one["step"] == {"op": "replace_prefix", "from": "blocks.3.fc.", "to": "head.3.fc."}
    several = body(
        model, "step", act="move", rows=[block, row_of(model, "layers.11.mlp.bias")], to=row_of(model, "head.bias")
    )
    keys = after(model, several["step"])
    assert {"head.3.fc.weight", "head.3.fc.bias", "head.layers.11.mlp.bias"} <= set(keys)
    assert several["step"]["op"] == "rename"
    into_itself = ask(model, "step", act="move", rows=[row_of(model, "head.")], to=row_of(model, "head.weight"))
    assert into_itself.failure is not None


def test_that_what_is_alike_is_found_by_name_shape_and_place(model: DocumentWorker) -> None:
    row = row_of(model, "blocks.3.fc.bias")
    for by, count in (("leaf", 14), ("shape", 13), ("family", 12)):
        wanted = body(model, "alike", row=row, by=by)["filter"]
        assert body(model, "rows", filter=wanted)["matched"] == count
        body(model, "rows", filter="")


def test_that_the_common_part_of_keys_is_whole_components(model: DocumentWorker) -> None:
    rows = [row_of(model, key) for key in ("blocks.1.fc.bias", "blocks.10.fc.bias")]
    assert body(model, "common", rows=rows)["text"] == "fc.bias"
    assert body(model, "common", rows=[rows[0], row_of(model, "head.weight")])["text"] == ""


def test_that_a_recipe_is_carried_out_up_to_the_step_that_fails(model: DocumentWorker) -> None:
    steps = [
        {"op": "prefix", "add": "m."},
        {"op": "rename", "rules": [["m.**", "x"]]},
        {"op": "drop", "keys": ["m.head.**"]},
    ]
    recipe = json.dumps({"format": "sdviewer-recipe/1", "step": steps})
    assert ask(model, "edit", recipe=recipe, selected=[], strict=True).failure is not None
    edit = body(model, "edit", recipe=recipe, selected=[], strict=False)["edit"]
    assert edit["failed"]["step"] == 1
    assert [step["changed"] for step in edit["steps"]] == [27, 0, 0]
    assert all(key.startswith("m.") for key in body(model, "keys", rows=[0], limit=100)["keys"])
    guarded = json.dumps({"format": "sdviewer-recipe/1", "source": {"require": ["nowhere"]}, "step": steps})
    edit = body(model, "edit", recipe=guarded, selected=[], strict=False)["edit"]
    assert edit["failed"]["step"] == -1
    assert "nowhere" in edit["failed"]["message"]
    assert body(model, "edit", recipe="", selected=[], strict=False)["edit"]["failed"] is None


def test_that_a_recipe_is_read_from_a_file_and_comes_back_as_the_same_text(
    model: DocumentWorker, tmp_path: Path
) -> None:
    path = tmp_path / "r.toml"
    path.write_text(
        'format = "sdviewer-recipe/1"\n\n[source]\nrequire = ["head.weight"]\n\n'
        '[[step]]\nop = "strip"\nprefix = "blocks."\nwhen = "any"\nwhy = "short"\nexpect = {matched = 24}\n'
    )
    draft = body(model, "read_recipe", path=str(path))["draft"]
    assert draft["head"] == {"source": {"require": ["head.weight"]}}
    (step,) = draft["steps"]
    assert step[0]["expect"] == {"matched": 24}
    recipe = json.dumps({"format": "sdviewer-recipe/1", **draft["head"], "step": [step[0]]})
    assert body(model, "recipe_text", recipe=recipe)["text"] == path.read_text()
    path.write_text("no recipe")
    failure = ask(model, "read_recipe", path=str(path)).failure
    assert failure is not None
    assert failure["code"] == "bad_recipe"


def test_that_rows_asked_about_before_the_answer_to_an_edit_are_those_that_were_meant(model: DocumentWorker) -> None:
    bias, block = row_of(model, "head.bias"), row_of(model, "layers.11.mlp.bias")
    before = body(model, "edit", recipe="", selected=[])["sheet"]
    recipe = {
        "format": "sdviewer-recipe/1",
        "step": [{"op": "replace_prefix", "from": "layers.11.", "to": "blocks.5."}],
    }
    after = body(model, "edit", recipe=json.dumps(recipe), selected=[])["sheet"]
    assert after == before + 1
    moved = body(model, "facts", row=block, sheet=before)
    assert (moved["key"], moved["row"] != block) == ("blocks.5.mlp.bias", True)
    step = body(model, "step", act="drop", rows=[bias], sheet=before)
    assert step["step"] == {"op": "drop", "keys": ["head.bias"]}
    assert body(model, "where", rows=[block, 10_000], sheet=before)["rows"] == [moved["row"], -1]
    selected = body(model, "selected", rows=[block, 10_000], start=0, limit=5, sheet=before)
    assert (selected["total"], selected["rows"][0][1]) == (1, "blocks.5.mlp.bias")
    # Once somebody has seen the sheet, its numbers are meant.
    assert body(model, "facts", row=moved["row"], sheet=after)["key"] == "blocks.5.mlp.bias"


def test_that_a_preview_has_more_rows_though_another_was_asked_for_meanwhile(model: DocumentWorker) -> None:
    found = preview(model, FIND, **{"for": "find"})
    preview(model, {"op": "rename", "rules": [["head.bias", "head.offset"]]})
    more = body(model, "preview", start=10, limit=50, **{"for": "find"})
    assert more["total"] == found["total"]
    assert more["rows"] == found["rows"][10:]

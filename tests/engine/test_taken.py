"""Taking tensors of another file in the window's processes: what is shown, saved, exported, undone and found again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sdviewer.core.progress import no_progress
from sdviewer.core.sheet import Sheet
from sdviewer.engine.client import DocumentWorker
from sdviewer.engine.journal import encoded, lines_between, read
from sdviewer.engine.lost import find_lost
from sdviewer.formats import open_checkpoint, open_storage
from sdviewer.formats.other_files import OtherFiles
from sdviewer.formats.storage import TensorSource
from sdviewer.repair.history import Draft, History, Step
from sdviewer.repair.operations import Take, operation_from_step
from sdviewer.repair.recipe import Recipe, parse_recipe
from tests.engine.conftest import Answered, ask
from tests.formats.conftest import Member, build_zip
from tests.formats.saved_files import records


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[DocumentWorker]:
    """A checkpoint that is open, beside another one."""
    torch.save({"model": {"fc.weight": torch.zeros(2, 3), "fc.bias": torch.zeros(2)}, "epoch": 3}, tmp_path / "a.pth")
    write_other(tmp_path)
    worker = DocumentWorker(str(tmp_path / "a.pth"))
    opened = Answered()
    worker.open(opened.done, opened.failed)
    assert opened.wait().failure is None
    yield worker
    worker.stop()


def write_other(folder: Path, value: float = 1.0, *, name: str = "b.pth") -> Path:
    tensors = {"m.fc.weight": torch.full((2, 3), value), "m.fc.bias": torch.arange(5.0), "m.new": torch.ones(4)}
    torch.save(tensors, folder / name)
    return folder / name


def take(folder: Path, **fields: Any) -> Step:
    table = {"op": "take", "from": str(folder / "b.pth"), "to": [["m.**", "**"]], **fields}
    return Step.of(operation_from_step(table))


def body(worker: DocumentWorker, name: str, **params: Any) -> Any:
    answer = ask(worker, name, **params)
    assert answer.failure is None, answer.failure
    return answer.body


def row_of(worker: DocumentWorker, key: str) -> int:
    return next(int(row) for row, found in body(worker, "find", text=key, limit=9)["rows"] if found == key)


def edited(worker: DocumentWorker, history: History, *, strict: bool = True) -> tuple[Mapping[str, Any], list[Any]]:
    """The answer to a recipe, and (key, note, shape) of the tensors that the tree shows then."""
    answer = Answered()
    text = "" if history.draft.is_empty else history.draft.to_text()
    worker.edit(text, [], answer.done, answer.failed, strict=strict)
    assert answer.wait().failure is None, answer.failure
    assert answer.body is not None
    sheet = Sheet.from_buffers(answer.buffers, tuple(answer.body["dtypes"]))
    rows = [(sheet.name(row), sheet.note(row), sheet.shape(row)) for row in range(int(answer.body["rows_total"]))]
    return answer.body["edit"], [row for row in rows if row[0] in ("weight", "bias", "new")]


def saved(worker: DocumentWorker, history: History, out: Path, edit: Mapping[str, Any], **options: Any) -> Answered:
    answer = Answered()
    identity = body(worker, "open", path=worker.path)["info"]["identity"]
    text = history.draft.to_text()
    worker.save(text, str(out), identity, answer.done, answer.failed, others=edit["others"], **options)
    return answer.wait()


def test_that_the_tree_tells_where_a_tensor_comes_from_and_its_numbers_are_those_there(
    worker: DocumentWorker, tmp_path: Path
) -> None:
    history = History().add(take(tmp_path))
    edit, rows = edited(worker, history)

    assert rows == [
        ("weight", "from b.pth", "2×3"),
        ("bias", "from b.pth, was 2", "→ 5"),
        ("new", "from b.pth", "4"),
    ]
    assert (edit["computed"], edit["dropped"]) == (3, 0)
    assert edit["warnings"][0][0] == "take_shape"
    facts = body(worker, "facts", row=row_of(worker, "fc.bias"))
    source = TensorSource.from_json(facts["source"])
    raw = bytearray(20)
    with open_storage(source) as storage:
        storage.read_into(0, memoryview(raw))
    assert bytes(raw) == torch.arange(5.0).numpy().tobytes()
    made = facts["made"]
    assert made["taken"]
    assert made["from"] == [[f"m.fc.bias of {tmp_path / 'b.pth'}", "5", "float32"]]
    assert [text for _, text in made["steps"]] == ['Take all tensors from "b.pth"']
    back, rows = edited(worker, history.undo())
    assert rows == [("weight", "", "2×3"), ("bias", "", "2")]
    assert back["others"] == {}


def test_that_a_preview_is_made_and_gives_the_step_its_full_path(
    worker: DocumentWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def preview(**fields: Any) -> Any:
        step = {"op": "take", "from": str(tmp_path / "b.pth"), "to": [["m.**", "**"]], **fields}
        return body(worker, "preview", recipe="", step=step, limit=10)

    found = preview()
    assert [(row[1][0][0], row[2]) for row in found["rows"]] == [
        ("fc.weight", "2×3 float32"),
        ("fc.bias", "2 float32 → 5 float32"),
        ("new", "4 float32"),
    ]
    assert found["warnings"] == ['"fc.bias" (2) is 5 in "b.pth"']
    relative = os.path.relpath(tmp_path / "b.pth")
    assert preview(**{"from": relative})["step"]["from"] == str(tmp_path / "b.pth")
    assert preview(**{"from": str(tmp_path / "none.pth")})["error"].startswith("There is no such file")
    assert "nothing to take" in preview(keys=["gone"])["problems"][0].lower()


def test_that_a_copy_is_saved_and_said_before(worker: DocumentWorker, tmp_path: Path) -> None:
    history = History().add(take(tmp_path))
    edit, _ = edited(worker, history)
    would = body(worker, "would_save", recipe=history.draft.to_text(), out=str(tmp_path / "out.pth"))
    assert would["error"] is None
    assert (would["written"], would["made"], would["dropped"]) == (3, 2, 0)
    other = body(worker, "would_save", recipe=history.draft.to_text(), out=str(tmp_path / "b.pth"))
    assert other["refused"]["message"].startswith("the output is an input")
    answer = saved(worker, history, tmp_path / "out.pth", edit)
    assert answer.failure is None, answer.failure
    assert answer.body is not None
    assert answer.body["receipt"]["taken"] == [{"file": str(tmp_path / "b.pth"), "tensors": 3}]
    found = torch.load(tmp_path / "out.pth")
    assert found["model"]["fc.bias"].tolist() == [0, 1, 2, 3, 4]
    assert found["epoch"] == 3
    assert body(worker, "lost")["patterns"] == []


def test_that_another_file_than_the_one_that_was_shown_is_not_taken_from(
    worker: DocumentWorker, tmp_path: Path
) -> None:
    history = History().add(take(tmp_path))
    edit, _ = edited(worker, history)
    write_other(tmp_path, 7.0)
    failure = saved(worker, history, tmp_path / "out.safetensors", edit).failure
    assert failure is not None
    assert (failure["code"], failure["path"]) == ("other_changed", str(tmp_path / "b.pth"))
    assert not (tmp_path / "out.safetensors").exists()
    edit, _ = edited(worker, history)  # as a reload does
    assert saved(worker, history, tmp_path / "out.safetensors", edit).failure is None
    assert load_file(tmp_path / "out.safetensors")["fc.weight"].tolist() == [[7] * 3] * 2


def test_that_a_taken_tensor_can_be_exported(worker: DocumentWorker, tmp_path: Path) -> None:
    history = History().add(take(tmp_path))
    edited(worker, history)
    identity = body(worker, "open", path=worker.path)["info"]["identity"]
    edited(worker, history)
    params = {
        "path": worker.path,
        "recipe": history.draft.to_text(),
        "identity": identity,
        "rows": [row_of(worker, "new")],
        "kind": "safetensors",
        "raw": False,
        "out": str(tmp_path / "new.safetensors"),
        "overwrite": False,
        "split_names": False,
    }
    answer = ask(worker, "export", **params)
    assert answer.failure is None, answer.failure
    assert load_file(tmp_path / "new.safetensors")["new"].tolist() == [1] * 4
    refused = ask(worker, "export", **{**params, "out": str(tmp_path / "b.pth"), "overwrite": True}).failure
    assert refused is not None
    assert "the output is an input" in refused["message"]


def test_that_a_recipe_names_what_lies_beside_it_by_shorter_paths_and_is_read_back(
    worker: DocumentWorker, tmp_path: Path
) -> None:
    draft = History().add(take(tmp_path)).draft

    def text(path: str) -> str:
        return str(body(worker, "recipe_text", recipe=draft.to_text(), path=path)["text"])

    assert f'from = "{tmp_path}/b.pth"' in text("")
    assert f'from = "{tmp_path}/b.pth"' in text("/elsewhere/fix.toml")
    beside = text(str(tmp_path / "fix.toml"))
    assert 'from = "b.pth"' in beside
    (tmp_path / "fix.toml").write_text(beside)
    read_back = body(worker, "read_recipe", path=str(tmp_path / "fix.toml"))
    assert Draft.from_body(read_back["draft"]) == draft


def test_that_edits_of_a_window_that_died_are_carried_out_again_and_a_file_that_is_gone_is_told(
    worker: DocumentWorker, tmp_path: Path
) -> None:
    drop = Step.of(operation_from_step({"op": "drop", "keys": ["fc.bias"]}))
    history = History().add(drop).add(take(tmp_path)).add(drop)
    head = {"format": "sdviewer-journal/1", "version": "0", "id": "0", "pid": 1, "path": worker.path, "identity": {}}
    first, crc = encoded([head], 0)
    rest, _ = encoded(lines_between(History(), history), crc)
    recovered = read(tmp_path / "x.jsonl", first + rest, 0.0)
    assert recovered is not None
    assert recovered.history.draft == history.draft
    answer = body(worker, "open", path=worker.path, recipe=recovered.history.draft.to_text())
    assert answer["edit"]["failed"] is None
    assert answer["edit"]["written"] == 2

    (tmp_path / "b.pth").unlink()
    answer = body(worker, "open", path=worker.path, recipe=recovered.history.draft.to_text())
    assert answer["edit"]["failed"]["step"] == 1
    assert "there is no such file" in answer["edit"]["failed"]["message"]
    assert answer["edit"]["written"] == 1  # the steps before it
    strict = Answered()
    worker.edit(recovered.history.draft.to_text(), [], strict.done, strict.failed, strict=True)
    failure = strict.wait().failure
    assert failure is not None
    assert failure["path"] == str(tmp_path / "b.pth")


def test_that_the_form_of_a_step_takes_all_of_its_fields(tmp_path: Path) -> None:
    step = take(tmp_path, state_dict="", keys=["m.**"])
    assert operation_from_step(step.table) == Take(
        path=str(tmp_path / "b.pth"), state_dict="", keys=("m.**",), to=(("m.**", "**"),)
    )
    assert step.label == 'Take "m.**" from "b.pth"'


def test_that_what_is_taken_from_a_good_file_need_not_be_dropped(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 3), "fc.bias": torch.zeros(2)}, tmp_path / "a.pth")
    lost = [name for name, content in records(tmp_path / "a.pth").items() if name.startswith("data/")]
    members = [Member(f"a/{name}", data) for name, data in records(tmp_path / "a.pth").items() if name not in lost]
    (tmp_path / "a.pth").write_bytes(build_zip(members).data)
    write_other(tmp_path)
    checkpoint = open_checkpoint(str(tmp_path / "a.pth"))
    recipe = parse_recipe(History().add(take(tmp_path, keys=["m.fc.weight"])).draft.to_text())

    found = find_lost(checkpoint, recipe, no_progress, OtherFiles())
    assert (found.patterns, found.remaining) == (("fc.bias",), "")
    assert find_lost(checkpoint, Recipe(), no_progress).patterns == ("fc.weight", "fc.bias")

"""What a document's worker answers, asked as the window asks it."""

from __future__ import annotations

import os
import signal
import struct
import time
from array import array
from pathlib import Path

import numpy as np
import pytest

from sdviewer.core.sheet import Sheet
from sdviewer.engine.client import DocumentWorker, Worker
from tests.engine.conftest import Answered, ask, begin, write_safetensors

STRIP = 'format = "sdviewer-recipe/1"\n[[step]]\nop = "strip"\nprefix = "module."\n'


def sheet_of(answer: Answered) -> Sheet:
    assert answer.body is not None
    return Sheet.from_buffers(answer.buffers, tuple(answer.body["dtypes"]))


def visible(answer: Answered) -> list[int]:
    rows = array("i")
    rows.frombytes(bytes(answer.buffers["visible"]))
    return rows.tolist()


def names(answer: Answered, sheet: Sheet) -> list[str]:
    return [sheet.name(row) for row in visible(answer)]


def test_that_open_tells_what_is_there(model_file: Path) -> None:
    worker = DocumentWorker(str(model_file))
    answer = Answered()
    worker.open(answer.done, answer.failed)
    body = answer.wait().body
    worker.stop()
    assert body is not None
    assert body["info"]["tensors"] == 7
    assert body["info"]["parameters"] == 51
    assert body["info"]["container"] == "safetensors"
    sheet = sheet_of(answer)
    assert names(answer, sheet) == ["model", "module", "blocks", "head"]


def test_that_rows_can_be_opened_filtered_and_sorted(document: DocumentWorker) -> None:
    sheet = sheet_of(ask(document, "edit", recipe="", selected=[]))
    everything = ask(document, "rows", all="expand")
    blocks = ["0", "a", "b", "1", "a", "b", "2", "a", "b"]
    assert names(everything, sheet) == ["model", "module", "blocks", "0 – 2", *blocks, "head"]
    filtered = ask(document, "rows", filter="head")
    assert names(filtered, sheet) == ["model", "module", "head"]
    assert filtered.body is not None
    assert filtered.body["matched"] == 1
    broken = ask(document, "rows", filter="/(/")
    assert broken.body is not None
    assert "regular expression" in broken.body["filter_error"]
    assert visible(broken) == visible(filtered)


def test_that_facts_say_where_a_tensor_lies_and_what_the_pool_needs(document: DocumentWorker) -> None:
    found = ask(document, "find", text="1.b", limit=10).body
    assert found is not None
    ((row, key),) = found["rows"]
    assert key == "module.blocks.1.b"
    facts = ask(document, "facts", row=row).body
    assert facts is not None
    assert facts["shape"] == [4, 2]
    assert facts["dtype"] == "float32"
    assert facts["key"] == key
    assert [part for part, _ in facts["path"]] == ["model", "module", "blocks", "1", "b"]
    assert facts["source"] is not None
    assert facts["editable"] == ""


def test_that_an_edit_renames_rows_and_keeps_the_selection(document: DocumentWorker) -> None:
    found = ask(document, "find", text="blocks.2.a", limit=1).body
    assert found is not None
    before = found["rows"][0][0]
    answer = ask(document, "edit", recipe=STRIP, selected=[before, 99999])
    assert answer.body is not None
    assert answer.body["edit"]["renamed"] == 7
    after, gone = answer.body["selected"]
    assert gone == -1
    facts = ask(document, "facts", row=after).body
    assert facts is not None
    assert facts["key"] == "blocks.2.a"
    assert facts["old_key"] == "module.blocks.2.a"


def test_that_a_recipe_that_fails_changes_nothing(document: DocumentWorker) -> None:
    bad = STRIP.replace("module.", "nowhere.")
    failed = ask(document, "edit", recipe=bad, selected=[]).failure
    assert failed is not None
    assert "nowhere." in failed["message"]
    info = ask(document, "edit", recipe="", selected=[]).body
    assert info is not None
    assert info["edit"]["renamed"] == 0


def test_that_a_preview_shows_problems_before_anything_is_done(document: DocumentWorker) -> None:
    step = {"op": "rename", "rules": [["module.blocks.*.a", "module.head"]]}
    shown = ask(document, "preview", recipe="", step=step, limit=2).body
    assert shown is not None
    assert shown["problems"]
    assert len(shown["rows"]) == 2
    good = ask(document, "preview", recipe="", step={"op": "strip", "prefix": "module."}, limit=100).body
    assert good is not None
    assert good["changed"] == 7
    assert good["problems"] == []
    keys = [["".join(text for text, _ in parts) for parts in row[:2]] for row in good["rows"]]
    assert ["module.head", "head"] in keys
    half_typed = ask(document, "preview", recipe="", step={"op": "strip", "prefix": ""}, limit=1).body
    assert half_typed is not None
    assert half_typed["error"]


def save(document: DocumentWorker, out: Path) -> Answered:
    opened = Answered()
    document.open(opened.done, opened.failed)
    identity = opened.wait().body
    assert identity is not None
    answer = Answered()
    document.save(STRIP, str(out), identity["info"]["identity"], answer.done, answer.failed, answer.progressed)
    return answer.wait()


def test_that_a_saved_copy_comes_with_its_receipt(document: DocumentWorker, tmp_path: Path) -> None:
    out = tmp_path / "repaired.safetensors"
    answer = save(document, out)
    assert answer.failure is None
    assert answer.body is not None
    receipt = answer.body["receipt"]
    assert receipt["written"] == 7
    assert receipt["verified"]["keys"] is True
    assert out.exists()
    refused = save(document, out).failure
    assert refused is not None
    assert refused["kind"] == "SaveError"


def test_that_a_copy_of_a_file_that_changed_is_not_saved(document: DocumentWorker, model_file: Path) -> None:
    opened, answer = Answered(), Answered()
    document.open(opened.done, opened.failed)
    body = opened.wait().body
    assert body is not None
    model_file.write_bytes(model_file.read_bytes())
    os.utime(model_file, ns=(0, 0))
    out = model_file.with_name("out.safetensors")
    document.save(STRIP, str(out), body["info"]["identity"], answer.done, answer.failed)
    failure = answer.wait().failure
    assert failure is not None
    assert failure["code"] == "file_changed"
    assert not out.exists()


def test_that_a_changed_file_is_noticed_and_how_it_changed(document: DocumentWorker, model_file: Path) -> None:
    def look() -> tuple[str, bool]:
        body = ask(document, "changed").body
        assert body is not None
        assert body["file"] == str(model_file)
        return body["state"], body["young"]

    assert look()[0] == "same"
    data = model_file.read_bytes()
    with model_file.open("ab") as stream:
        stream.write(b"x")
    ahead = time.time_ns() + 30 * 10**9  # by a clock that is ahead, so that no slow machine makes it old
    os.utime(model_file, ns=(ahead, ahead))
    assert look() == ("written", True)
    os.utime(model_file, ns=(1, 1))
    assert look() == ("written", False)
    other = model_file.with_name("other")
    other.write_bytes(data)
    os.utime(other, ns=(1, 1))
    other.replace(model_file)
    assert look() == ("replaced", False)
    model_file.unlink()
    assert look() == ("gone", False)


def test_that_a_file_that_breaks_off_while_it_is_written_says_so(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    path.write_bytes(struct.pack("<Q", 1000) + b"{" + b" " * 100)
    ahead = time.time_ns() + 30 * 10**9
    os.utime(path, ns=(ahead, ahead))
    worker = DocumentWorker(str(path))
    answer = Answered()
    worker.open(answer.done, answer.failed)
    failure = answer.wait().failure
    assert failure is not None
    assert "may still be being written" in failure["remedy"]
    os.utime(path, ns=(1, 1))
    answer = Answered()
    worker.open(answer.done, answer.failed)
    failure = answer.wait().failure
    assert failure is not None
    assert "being written" not in failure["remedy"]
    worker.stop()


def test_that_a_recipe_that_does_not_fit_any_more_does_not_hide_the_file(
    document: DocumentWorker, model_file: Path
) -> None:
    write_safetensors(model_file, {"plain": np.zeros(3, np.float32)})
    answer = Answered()
    document.open(answer.done, answer.failed, recipe=STRIP)
    body = answer.wait().body
    assert body is not None
    assert "lack" in body["edit"]["failed"]["message"]
    assert body["edit"]["failed"]["step"] == 0
    assert body["info"]["tensors"] == 1
    assert [step["changed"] for step in body["edit"]["steps"]] == [0]


def test_that_no_edit_is_lost_when_the_worker_dies(document: DocumentWorker) -> None:
    edited, answer = Answered(), Answered()
    document.edit(STRIP, [], edited.done, edited.failed)
    assert edited.wait().failure is None
    process = document._process
    assert process is not None
    os.kill(process.popen.pid, signal.SIGKILL)
    process.popen.wait()
    while document._process is process:  # until the waiting thread has seen it
        time.sleep(0)
    document.request("find", {"text": "blocks.0.a", "limit": 1}, answer.done, answer.failed)
    body = answer.wait().body
    assert body is not None
    assert body["rows"][0][1] == "blocks.0.a"


def test_that_a_worker_that_does_not_answer_is_ended(document: DocumentWorker) -> None:
    process = document._process
    assert process is not None
    os.kill(process.popen.pid, signal.SIGSTOP)
    request, answer = begin(document, "find", text="a", limit=1)
    request.cancel()
    failure = answer.wait().failure
    assert failure is not None
    assert failure["code"] == "cancelled"
    assert process.popen.wait() == -signal.SIGKILL
    again = ask(document, "find", text="head", limit=1).body
    assert again is not None
    assert again["rows"]


def test_that_a_save_that_does_not_notice_a_stop_is_told_at_once_and_may_clean_up(
    document: DocumentWorker, tmp_path: Path
) -> None:
    answer = Answered()
    identity = ask(document, "open", path=document.path).body["info"]["identity"]  # type: ignore[index]
    request = document.save(STRIP, str(tmp_path / "copy.safetensors"), identity, answer.done, answer.failed)
    assert request.owner is not None
    process = request.owner._process
    assert process is not None
    while process.popen is None:  # until it is started
        time.sleep(0)
    os.kill(process.popen.pid, signal.SIGSTOP)
    request.cancel()
    failure = answer.wait().failure
    assert failure is not None
    assert failure["code"] == "cancelled"
    os.kill(process.popen.pid, signal.SIGCONT)
    assert process.popen.wait() == 0  # it ended by itself, with what it had to take away
    assert not (tmp_path / "copy.safetensors").exists()


def test_that_a_dropped_request_ends_nothing(document: DocumentWorker) -> None:
    process = document._process
    dropped, first = begin(document, "rows", all="expand")
    dropped.drop()
    second = ask(document, "find", text="head", limit=1)
    first.wait()
    assert second.body is not None
    assert document._process is process


@pytest.mark.parametrize("content", [b"", b"<!doctype html><html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_that_a_file_that_is_no_checkpoint_is_a_message(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wrong.pth"
    path.write_bytes(content)
    worker = DocumentWorker(str(path))
    answer = Answered()
    worker.open(answer.done, answer.failed)
    failure = answer.wait().failure
    worker.stop()
    assert failure is not None
    assert failure["path"] == str(path)
    assert failure["message"]
    assert failure["code"] != "internal"


def test_that_a_worker_stopped_while_it_starts_does_not_live_on() -> None:
    worker = Worker("numbers")
    worker.start()
    process = worker._process
    assert process is not None and process.waiter is not None
    worker.stop(wait=False)
    process.waiter.join()
    assert process.popen is None or process.popen.returncode == -signal.SIGKILL

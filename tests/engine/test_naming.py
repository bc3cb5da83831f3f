"""A cancel that comes when a file that was written gets its name: what is told is what is on the disk."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sdviewer.engine import client
from sdviewer.engine.client import DocumentWorker, Request
from sdviewer.engine.frames import Frame, read_frame, write_frame
from tests.engine.conftest import Answered, ask

ASKS = """
import sys
from sdviewer.core.checkpoint import Identity
from sdviewer.engine.frames import Answer
from sdviewer.engine.naming import before_naming
from sdviewer.engine.worker import run

class Service:
    def __init__(self):
        self.named = []
        self.requests = {"save": self.save}

    def save(self, params, progress):
        before_naming(progress)(Identity(1, params["file"], 3, 4, 5))
        self.named.append(params["file"])
        return Answer({"named": self.named})

run(Service(), sys.stdin.buffer, sys.stdout.buffer)
"""


def test_that_a_worker_asks_before_it_names_a_file_and_obeys() -> None:
    with subprocess.Popen([sys.executable, "-c", ASKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        for number, word, other in ((7, "cancel", "go"), (8, "go", "cancel")):
            write_frame(worker.stdin, Frame(number, "request", {"name": "save", "params": {"file": number}}))
            asked = read_frame(worker.stdout)
            assert asked is not None
            assert (asked.id, asked.type, asked.body["inode"]) == (number, "naming", number)
            write_frame(worker.stdin, Frame(number - 5, other))  # too late for another request, it says nothing of this
            write_frame(worker.stdin, Frame(number, word))
            answer = read_frame(worker.stdout)
            assert answer is not None
            assert answer.type == {"cancel": "cancelled", "go": "result"}[word]
        assert answer.body == {"named": [8]}
        worker.stdin.close()


def saved(document: DocumentWorker, out: Path, when_naming: Callable[[Request], None]) -> Answered:
    """Save a copy; `when_naming` is called when the file is to get its name, before the worker may give it."""
    answer = Answered()
    begun = threading.Event()
    requests: list[Request] = []

    def progressed(done: int, total: int) -> None:
        begun.wait()
        if requests[0].naming is not None:
            when_naming(requests[0])

    opened = ask(document, "open", path=document.path).body
    assert opened is not None
    identity = opened["info"]["identity"]
    requests.append(document.save("", str(out), identity, answer.done, answer.failed, progressed))
    begun.set()
    return answer.wait()


def test_that_a_cancel_that_comes_when_a_copy_gets_its_name_is_too_late_and_a_receipt_comes(
    document: DocumentWorker, tmp_path: Path
) -> None:
    out = tmp_path / "copy.safetensors"
    answer = saved(document, out, Request.cancel)
    assert answer.failure is None
    assert answer.body is not None
    assert answer.body["receipt"]["verified"]["bits"]
    assert out.read_bytes() == Path(document.path).read_bytes()


def test_that_a_process_that_ends_before_its_copy_has_its_name_leaves_none(
    document: DocumentWorker, tmp_path: Path
) -> None:
    def kill(request: Request) -> None:
        assert request.owner is not None
        process = request.owner._process
        assert process is not None and process.popen is not None
        process.popen.kill()
        process.popen.wait()

    answer = saved(document, tmp_path / "copy.safetensors", kill)
    assert answer.failure is not None
    assert answer.failure["code"] == "worker_died"
    assert not (tmp_path / "copy.safetensors").exists()


DIES = """
import os, sys
from dataclasses import asdict
from sdviewer.engine.frames import Frame, read_frame, write_frame
from sdviewer.formats.file import identity_of

request = read_frame(sys.stdin.buffer)
out = request.body["params"]["out"]
with open(out + ".new", "wb") as file:
    file.write(b"copy")
write_frame(sys.stdout.buffer, Frame(request.id, "naming", asdict(identity_of(os.stat(out + ".new")))))
assert read_frame(sys.stdin.buffer).type == "go"
if sys.argv[1] == "renames":
    os.rename(out + ".new", out)
"""


@pytest.mark.parametrize(("does", "code"), [("renames", "receipt_lost"), ("dies", "worker_died")])
def test_that_of_a_process_that_ends_without_an_answer_the_window_looks_what_it_did(
    does: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "worker_command", lambda service: [sys.executable, "-c", DIES, does])
    out = tmp_path / "copy.pt"
    answer = Answered()
    worker = DocumentWorker(str(tmp_path / "a.pt"))
    worker.save("", str(out), {}, answer.done, answer.failed)
    failure = answer.wait().failure
    assert failure is not None
    assert failure["code"] == code
    assert out.exists() == (code == "receipt_lost")
    if out.exists():
        assert failure["path"] == str(out)
        assert failure["identity"]["inode"] == out.stat().st_ino

"""What a fenced process can still do, tried in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

from sdviewer.engine.client import DocumentWorker, NumbersPool
from tests.engine.conftest import Answered, ask

FENCED = """
import json, os, socket, subprocess, sys
from sdviewer.engine.hardening import harden
open_before = open(sys.argv[2])
done = harden(sys.argv[3:], may_write=len(sys.argv) > 3, programs=[sys.executable] if len(sys.argv) > 3 else [])
def tried(act):
    try:
        act()
        return "done"
    except OSError as error:
        return type(error).__name__
def write(path):
    with open(path, "w") as file:
        file.write("x")
def connect():
    with socket.socket() as one:
        one.settimeout(1)
        one.connect(("127.0.0.1", 9))
print(json.dumps([done, {
    "write": tried(lambda: write(sys.argv[1])),
    "truncate": tried(lambda: os.truncate(sys.argv[2], 0)),
    "remove": tried(lambda: os.remove(sys.argv[2])),
    "folder": tried(lambda: os.mkdir(sys.argv[1])),
    "program": tried(lambda: subprocess.run(["/bin/true"], check=False)),
    "python": tried(lambda: subprocess.run([sys.executable, "-c", ""], check=True)),
    "connect": tried(connect),
    "read": tried(lambda: open(sys.argv[2]).read()),
    "read open": tried(open_before.read),
    "write below": tried(lambda: write(os.path.join(sys.argv[-1], "file"))),
}]))
"""


def fenced(tmp_path: Path, *writable: Path) -> tuple[list[str], dict[str, str]]:
    (tmp_path / "there").write_text("content")
    command = [sys.executable, "-c", FENCED, str(tmp_path / "new"), str(tmp_path / "there"), *map(str, writable)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    done, tried = json.loads(run.stdout)
    return done, tried


def test_that_a_fenced_process_reads_and_does_nothing_else(tmp_path: Path) -> None:
    done, tried = fenced(tmp_path)
    assert tried["read"] == tried["read open"] == "done"
    assert "no byte written to a file" in done
    if any("program" in what for what in done):  # elsewhere there is no Landlock, and the worker works all the same
        refused = ("write", "truncate", "remove", "folder", "program", "python", "connect")
        assert {tried[act] for act in refused} == {"PermissionError"}
    assert (tmp_path / "there").read_text() == "content"


def test_that_named_folders_stay_writable_and_named_programs_start(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    done, tried = fenced(tmp_path, tmp_path / "missing", tmp_path / "cache")
    assert tried["write below"] == tried["python"] == "done"
    assert "no byte written to a file" not in done
    if any("program" in what for what in done):
        assert tried["write"] == tried["program"] == "PermissionError"


def test_that_a_system_without_any_of_it_is_no_failure(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['resource'] = sys.modules['ctypes'] = None; "
        "from sdviewer.engine.hardening import harden; print(harden())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def limits(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def test_that_workers_are_fenced_before_they_look_at_a_file_and_savers_can_write(
    document: DocumentWorker, model_file: Path, tmp_path: Path
) -> None:
    assert document._process is not None and document._process.popen is not None
    assert "NoNewPrivs:\t1" in limits(document._process.popen.pid)
    info = ask(document, "facts", row=1).body
    assert info is not None
    answer = Answered()
    opened = ask(document, "open", path=str(model_file)).body
    assert opened is not None
    document.save("", str(tmp_path / "out.safetensors"), opened["info"]["identity"], answer.done, answer.failed)
    assert answer.wait().failure is None
    assert (tmp_path / "out.safetensors").read_bytes() == model_file.read_bytes()


def test_that_a_fenced_pool_measures(document: DocumentWorker) -> None:
    source = next(
        facts["source"] for row in range(20) if (facts := ask(document, "facts", row=row).body) and facts["source"]
    )
    pool = NumbersPool(1)
    answer = Answered()
    pool.request("overview", {"source": source}, answer.done, answer.failed)
    body = answer.wait().body
    process = pool._workers[0]._process
    assert process is not None and process.popen is not None
    status = limits(process.popen.pid)
    pool.stop()
    assert body is not None
    assert body["summary"]["count"]
    assert "NoNewPrivs:\t1" in status


def test_that_a_fenced_worker_still_reads_what_needs_a_process_of_its_own(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file["a.weight"] = np.ones((2, 3), np.float32)
    worker = DocumentWorker(str(tmp_path / "model.h5"))
    opened = Answered()
    worker.open(opened.done, opened.failed)
    opened.wait()
    worker.stop()
    assert opened.failure is None
    assert opened.body is not None
    assert opened.body["info"]["tensors"] == 1

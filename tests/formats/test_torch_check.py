from __future__ import annotations

import argparse
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sdviewer.formats import torch_check
from sdviewer.formats.torch_check import TorchCheck, Verdict


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[tuple[str, int]]:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(2), "args": argparse.Namespace(lr=1)}, path)
    fd = os.open(path, os.O_RDONLY)
    yield str(path), fd
    os.close(fd)


def test_that_torch_is_asked_in_a_child_and_its_reason_is_one_sentence(saved: tuple[str, int]) -> None:
    path, fd = saved
    check = TorchCheck(f"/proc/self/fd/{fd}", fd, mapped=True, nbytes=1)
    while not check.finished():
        pass
    verdict = check.verdict()
    assert verdict.loads is False
    assert "argparse.Namespace was not an allowed global by default" in verdict.reason
    assert "add_safe_globals" not in verdict.reason
    torch.save({"w": torch.ones(2)}, path)
    assert TorchCheck(path, fd, mapped=True, nbytes=1).verdict() == Verdict(True, "")


def test_that_a_file_too_large_for_memory_is_not_tried_unless_it_can_be_mapped(saved: tuple[str, int]) -> None:
    path, fd = saved
    verdict = TorchCheck(path, fd, mapped=False, nbytes=1 << 60).verdict()
    assert verdict.loads is None
    assert "1024 PiB of memory" in verdict.reason


def test_that_a_build_without_python_and_one_without_torch_say_so(
    saved: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fd = saved
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert TorchCheck(path, fd, mapped=True, nbytes=1).verdict().loads is None
    monkeypatch.delattr(sys, "frozen")
    monkeypatch.setattr(torch_check, "find_spec", lambda name: None)
    assert TorchCheck(path, fd, mapped=True, nbytes=1).verdict() == Verdict(None, "torch is not installed")


def test_that_a_child_that_dies_is_a_no_and_one_that_is_stopped_is_gone(
    saved: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fd = saved
    (tmp_path / "torch.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert TorchCheck(path, fd, mapped=True, nbytes=1).verdict() == Verdict(False, "torch ended with signal 11")
    (tmp_path / "torch.py").write_text("while True: pass\n")
    check = TorchCheck(path, fd, mapped=True, nbytes=1)
    child = check._child
    assert child is not None
    check.stop()
    assert child.returncode is not None
    assert check.finished()


def test_that_a_folder_named_torch_in_the_current_folder_is_not_run(
    saved: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fd = saved
    torch.save({"w": torch.ones(2)}, path)
    (tmp_path / "torch.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "json.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    assert TorchCheck(path, fd, mapped=True, nbytes=1).verdict() == Verdict(True, "")


PARENT = """
import sys, time
from sdviewer.formats.torch_check import TorchCheck
check = TorchCheck(sys.argv[1], int(sys.argv[2]), mapped=False, nbytes=1)
print("begun", flush=True)
sys.stdin.read()
"""


def test_that_the_child_ends_with_a_save_that_is_killed(tmp_path: Path) -> None:
    endless = tmp_path / "endless.pt"
    os.mkfifo(endless)  # nobody ever writes into it
    held, given = os.pipe()
    command = [sys.executable, "-c", PARENT, str(endless), str(given)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(given,)) as parent:
        os.close(given)
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"begun\n"
        parent.kill()
    # The end of the pipe comes when the last process that holds it is gone.
    ended, _, _ = select.select([held], [], [], 60)
    os.close(held)
    if not ended:
        os.close(os.open(endless, os.O_WRONLY | os.O_NONBLOCK))  # lets it go
    assert ended

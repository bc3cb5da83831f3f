"""One window a display, whatever the moment at which starts happen. Each start is a process of its own."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import IO

import pytest

from sdviewer.engine import instance
from sdviewer.engine.instance import OpenRequest, hand_over, serve

# A start as the window does it: hand over, or load Qt (meanwhile all look and nobody serves yet) and serve until
# standard input closes.
START = """
import os, sys
from sdviewer.engine.instance import hand_over, serve

def tell(text):  # in one piece: two threads tell
    os.write(1, text.encode() + b"\\n")

sys.stdin.readline()
if hand_over(sys.argv[1:]):
    tell("handed over")
else:
    import PySide6.QtWidgets
    server = serve(lambda request: tell("\\n".join(request.paths)))
    tell("serves" if server.active else "serves not")
    sys.stdin.read()
    server.close()
"""


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # Not tmp_path: its names are longer than a socket's may be.
    with tempfile.TemporaryDirectory(prefix="sdviewer-", dir="/tmp") as name:
        isolate(Path(name), monkeypatch)
        yield Path(name)


def isolate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("DISPLAY", ":77")
    for name in ("WAYLAND_DISPLAY", "XDG_ACTIVATION_TOKEN", "DESKTOP_STARTUP_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def start(runtime: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    processes = []

    def begin(*paths: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", START, *paths]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=runtime)
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def go(process: subprocess.Popen[str]) -> None:
    pipe(process.stdin).write("\n")
    pipe(process.stdin).flush()


def test_that_eight_starts_at_once_make_one_window_that_gets_all_files(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    processes = [start(f"file{i}.pth") for i in range(8)]
    for process in processes:
        go(process)

    # The window may print files before it says that it serves; seven others and this line are due from it.
    first_lines = [pipe(process.stdout).readline().strip() for process in processes]
    windows = [i for i, line in enumerate(first_lines) if line != "handed over"]

    assert len(windows) == 1
    window = processes[windows[0]]
    lines = {first_lines[windows[0]]} | {pipe(window.stdout).readline().strip() for _ in range(7)}
    others = {f"{os.path.realpath(os.environ['XDG_RUNTIME_DIR'])}/file{i}.pth" for i in range(8) if i != windows[0]}
    assert lines == others | {"serves"}


def test_that_a_killed_window_leaves_its_place_to_the_next_start(start: Callable[..., subprocess.Popen[str]]) -> None:
    first, second = start("a.pth"), start("b.pth")
    go(first)
    assert pipe(first.stdout).readline() == "serves\n"
    first.kill()
    first.wait()

    go(second)

    assert pipe(second.stdout).readline() == "serves\n"


def test_that_a_start_that_dies_with_the_lock_does_not_stop_the_next(
    start: Callable[..., subprocess.Popen[str]], runtime: Path
) -> None:
    dies = "from sdviewer.engine.instance import hand_over; import os; hand_over([]); os.abort()"
    subprocess.run([sys.executable, "-c", dies], cwd=runtime, check=False)

    second = start("b.pth")
    go(second)

    assert pipe(second.stdout).readline() == "serves\n"


@pytest.mark.parametrize("how", ["compare", "series"])
def test_that_the_window_is_told_what_the_paths_are_to_each_other(runtime: Path, how: str) -> None:
    got: Queue[OpenRequest] = Queue()
    server = serve(got.put)
    assert hand_over(["/a.pth", "/b.pth"], **{how: True})
    assert got.get(timeout=10) == OpenRequest(("/a.pth", "/b.pth"), **{how: True})
    server.close()


def test_that_the_window_gets_absolute_paths_and_the_tokens_that_let_it_come_forward(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: Queue[OpenRequest] = Queue()
    server = serve(got.put)
    monkeypatch.chdir(runtime)
    monkeypatch.setenv("XDG_ACTIVATION_TOKEN", "wayland-7")
    monkeypatch.setenv("DESKTOP_STARTUP_ID", "x11_TIME7")
    odd = os.fsdecode(b"sub/../\xff not utf-8.pth")

    assert hand_over([odd, "/abs/ünï.pth"])

    paths = (os.fsdecode(os.fsencode(runtime) + b"/\xff not utf-8.pth"), "/abs/ünï.pth")
    assert got.get(timeout=10) == OpenRequest(paths, "wayland-7", "x11_TIME7")
    server.close()


def test_that_a_start_without_files_still_reaches_the_window() -> None:
    got: Queue[OpenRequest] = Queue()
    server = serve(got.put)

    assert hand_over([])

    assert got.get(timeout=10).paths == ()
    server.close()


def test_that_another_display_has_a_window_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(lambda request: None)
    monkeypatch.setenv("DISPLAY", ":78")

    assert not hand_over(["a.pth"])

    other = serve(lambda request: None)
    assert other.active
    other.close()
    server.close()


def test_that_a_second_window_does_not_take_the_address_of_the_first() -> None:
    got: Queue[OpenRequest] = Queue()
    first = serve(got.put)
    second = serve(lambda request: None)

    assert not second.active
    second.close()
    assert hand_over(["a.pth"])

    assert got.get(timeout=10).paths[0].endswith("a.pth")
    first.close()


def test_that_after_closing_the_next_start_is_a_window_and_nothing_is_left(runtime: Path) -> None:
    serve(lambda request: None).close()

    assert not list(runtime.glob("*.sock*"))
    assert not hand_over(["a.pth"])
    serve(lambda request: None).close()


def test_that_only_this_user_can_talk_to_the_window(runtime: Path) -> None:
    server = serve(lambda request: None)

    (address,) = runtime.glob("*.sock")

    assert stat.S_IMODE(address.stat().st_mode) == 0o600
    server.close()


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{",
        b"[1]\n",
        b'{"paths": 3}\n',
        b'{"paths": ["relative.pth"]}\n',
        b'{"paths": [], "startup_id": 1}\n',
        b"\xff\xfe\n",
    ],
)
def test_that_a_broken_message_opens_nothing_and_the_window_goes_on(runtime: Path, message: bytes) -> None:
    got: Queue[OpenRequest] = Queue()
    server = serve(got.put)
    (address,) = runtime.glob("*.sock")

    with socket.socket(socket.AF_UNIX) as rogue:
        rogue.connect(str(address))
        rogue.sendall(message)
        rogue.shutdown(socket.SHUT_WR)
        assert rogue.recv(3) == b""

    assert hand_over(["/a.pth"])
    assert got.get(timeout=10).paths == ("/a.pth",)
    assert got.empty()
    server.close()


def test_that_a_window_too_busy_to_answer_is_not_opened_twice(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "PATIENCE", 0.2)
    go_on = threading.Event()
    got: Queue[OpenRequest] = Queue()

    def busy(request: OpenRequest) -> None:
        go_on.wait(10)
        got.put(request)

    server = serve(busy)

    assert hand_over(["/a.pth"])

    go_on.set()
    assert got.get(timeout=10).paths == ("/a.pth",)
    server.close()


def test_that_a_window_that_cannot_take_the_files_leaves_them_to_the_start() -> None:
    def deleted(request: OpenRequest) -> None:
        raise RuntimeError("Signal source has been deleted")

    server = serve(deleted)

    # It serves, so this start gets neither its `ok` nor the lock's first place; it opens its own window.
    assert not hand_over(["/a.pth"])

    second = serve(deleted)
    assert not second.active
    server.close()


def test_that_a_runtime_folder_too_deep_for_a_socket_still_has_one_window(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = runtime / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    got: Queue[OpenRequest] = Queue()
    server = serve(got.put)

    assert server.active
    assert hand_over(["/a.pth"])

    assert got.get(timeout=10).paths == ("/a.pth",)
    server.close()

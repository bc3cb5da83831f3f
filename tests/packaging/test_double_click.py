"""The promise itself: a double-click in a file manager opens the checkpoint in a window, and in the one that is open.

The desktop is a real one of its own: a virtual screen (Xvfb), a window manager (openbox), a file manager (pcmanfm), a
mouse (xdotool). Everything waits for a sign with a deadline: a window that is visible, a line in the log to which
sdviewer (`SDVIEWER_TEST_LOG`) and the text editor of this test write what they opened.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds after which a sign that did not come is a failure; a busy machine needs a few."""

WHERE_THE_ICON_IS = ("207", "95")
"""In a pcmanfm window with one file, in pixels from its corner: right of the list of places, below the tool bar."""


class Desktop:
    """A screen with a window manager and a file manager in which things can be double-clicked."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.log = home / "opened.log"
        self.log.touch()
        self._children: list[subprocess.Popen[bytes]] = []
        self._environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_RUNTIME_DIR": str(home / "run"),
            "SDVIEWER_TEST_LOG": str(self.log),
            "NO_AT_BRIDGE": "1",
        }
        (home / "run").mkdir(mode=0o700)

    def begin(self) -> None:
        """Start screen, message bus and window manager; return when windows can be managed."""
        read, write = os.pipe()
        self._start(["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x800x24", "-nolisten", "tcp"], keep=write)
        os.close(write)
        self._environment["DISPLAY"] = ":" + _line(read)
        read, write = os.pipe()
        self._start(["dbus-daemon", "--session", "--nofork", f"--print-address={write}"], keep=write)
        os.close(write)
        self._environment["DBUS_SESSION_BUS_ADDRESS"] = _line(read)
        self._start(["openbox"])
        self.wait_for("the window manager", lambda: self.xdotool("get_desktop"))

    def end(self) -> None:
        """End what was started here, and the sdviewer that the file manager started."""
        for pid in {line.split()[0] for line in self.lines() if " open " in line}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGTERM)
        for child in reversed(self._children):
            child.terminate()
        for child in self._children:
            child.wait(PATIENCE)

    def run(self, *command: str) -> None:
        """Run a program to its end."""
        subprocess.run(command, env=self._environment, check=True, capture_output=True, timeout=PATIENCE)

    def xdotool(self, *arguments: str) -> str:
        """What xdotool prints; "" while it finds nothing, or while what it waits for (--sync) does not happen."""
        command = ["xdotool", *arguments]
        try:
            answer = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=5)
        except subprocess.TimeoutExpired:
            return ""
        return answer.stdout.strip() if answer.returncode == 0 else ""

    def window(self, title: str) -> str:
        """Wait for a visible window whose title matches the expression; its id."""
        found = self.wait_for(f"a window {title!r}", lambda: self.xdotool("search", "--onlyvisible", "--name", title))
        return found.splitlines()[-1]

    def double_click_the_file_in(self, folder: Path, until: Callable[[], object]) -> None:
        """Show `folder`, which has one file, in the file manager and double-click that file until there is a sign.

        Again and again, because nothing tells when a file manager has drawn its first icon.
        """
        self._start(["pcmanfm", "--new-win", str(folder)])
        window = self.window(f"^{folder.name}$")
        self.xdotool("windowsize", "--sync", window, "800", "500")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.xdotool("windowactivate", "--sync", window)
            self.xdotool("mousemove", "--window", window, *WHERE_THE_ICON_IS)
            self.xdotool("click", "--repeat", "2", "--delay", "80", "1")
            if _poll(until, 2):
                return
        raise AssertionError(f"no sign after double-clicks in {folder.name}; the log: {self.lines()}")

    def lines(self) -> list[str]:
        """What was opened so far, `PID VERB PATH` a line."""
        return self.log.read_text(encoding="utf-8").splitlines()

    def opened(self, verb: str, path: Path) -> str:
        """The process that opened `path`, "" while none has."""
        return next((line.split()[0] for line in self.lines() if line.endswith(f" {verb} {path}")), "")

    def wait_for(self, what: str, sign: Callable[[], str]) -> str:
        """Poll for a sign that is not empty."""
        found = _poll(sign, PATIENCE)
        assert found, f"{what} did not come; the log: {self.lines()}"
        return found

    def _start(self, command: list[str], keep: int | None = None) -> None:
        descriptors = () if keep is None else (keep,)
        quiet = subprocess.DEVNULL
        child = subprocess.Popen(command, env=self._environment, pass_fds=descriptors, stdout=quiet, stderr=quiet)
        self._children.append(child)


def _poll(sign: Callable[[], T], seconds: float) -> T:
    deadline = time.monotonic() + seconds
    while not (found := sign()) and time.monotonic() < deadline:
        select.select([], [], [], 0.05)
    return found


def _line(descriptor: int) -> str:
    """The line that a program writes when it is ready."""
    with os.fdopen(descriptor) as stream:
        readable, _, _ = select.select([stream], [], [], PATIENCE)
        assert readable
        return stream.readline().strip()


@pytest.fixture
def desktop(tmp_path: Path) -> Iterator[Desktop]:
    desktop = Desktop(tmp_path)
    _install_editor(desktop)
    try:
        desktop.begin()
        yield desktop
    finally:
        desktop.end()


def _install_editor(desktop: Desktop) -> None:
    """A text editor, so that there is a right answer to a double-click on a text file."""
    program = desktop.home / "editor"
    program.write_text(f'#!/bin/sh\nprintf "%s edit %s\\n" "$$" "$1" >> {shlex.quote(str(desktop.log))}\n')
    program.chmod(0o755)
    applications = desktop.home / "data" / "applications"
    applications.mkdir(parents=True)
    entry = f"[Desktop Entry]\nType=Application\nName=Editor\nExec={program} %f\nMimeType=text/plain;\n"
    (applications / "editor.desktop").write_text(entry)
    (desktop.home / "config").mkdir()
    (desktop.home / "config" / "mimeapps.list").write_text("[Default Applications]\ntext/plain=editor.desktop\n")


def _file_in(folder: Path, name: str, content: bytes | None = None) -> Path:
    folder.mkdir()
    path = folder / name
    if content is not None:
        path.write_bytes(content)
    else:
        import torch

        torch.save({"fc.weight": torch.ones(4, 3), "fc.bias": torch.zeros(4)}, path)
    return path


def test_that_a_double_click_opens_checkpoints_in_one_window_and_path_files_in_the_editor(desktop: Desktop) -> None:
    first = _file_in(desktop.home / "one", "my model (50%) ünï.pth")
    second = _file_in(desktop.home / "two", "best.pth.tar")
    text = _file_in(desktop.home / "three", "easy-install.pth", b"/usr/lib/python3/dist-packages\n")
    desktop.run(str(Path(sys.executable).with_name("sdviewer")), "register")

    desktop.double_click_the_file_in(first.parent, lambda: desktop.opened("open", first))
    desktop.window(r"my model \(50%\) ünï\.pth.*sdviewer")
    desktop.double_click_the_file_in(second.parent, lambda: desktop.opened("open", second))
    desktop.window(r"best\.pth\.tar.*sdviewer")
    desktop.double_click_the_file_in(text.parent, lambda: desktop.opened("edit", text))

    assert desktop.opened("open", first) == desktop.opened("open", second)
    assert not desktop.opened("open", text)
    assert len(desktop.xdotool("search", "--onlyvisible", "--name", "sdviewer$").splitlines()) == 1

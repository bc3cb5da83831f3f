"""Opening the window from the command line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="only there a session can be without a display")
@pytest.mark.parametrize("words", [["open", "a.pth"], []], ids=["open", "none"])
def test_that_a_machine_without_a_display_is_told_in_a_line(words: list[str]) -> None:
    gone = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    environment = {name: value for name, value in os.environ.items() if name not in gone}
    ended = subprocess.run([sys.executable, "-m", "sdviewer", *words], env=environment, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("sdviewer: there is no display")
    assert ended.stderr.count("\n") == 1

"""Ctrl-C while a command saves."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.cli.conftest import Command


@pytest.mark.parametrize("when", ["before it has its name", "after"])
def test_that_ctrl_c_stops_a_save_until_the_file_has_its_name(
    sdviewer: Command, training: Path, strip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    out = tmp_path / "out.pt"
    sync = os.fsync

    def interrupt(fd: int) -> None:
        sync(fd)
        if out.exists() == (when == "after"):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(os, "fsync", interrupt)
    # A program that a shell starts behind it ignores Ctrl-C, and so does what that starts.
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        ran = sdviewer("repair", training, "--recipe", strip, "-o", out, "--json")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, ours)
    if when == "after":
        assert ran.code == 0
        assert ran.json["output"] == str(out)
        assert out.exists()
    else:
        assert ran.code == 5
        assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([training.name, strip.name])

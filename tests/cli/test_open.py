"""Opening the window from the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.mark.skipif(sys.platform != "linux", reason="only there a session can be without a display")
@pytest.mark.parametrize("words", [["open", "a.pth"], ["compare", "a.pth", "b.pth"], []], ids=["open", "two", "none"])
def test_that_a_machine_without_a_display_is_told_in_a_line(words: list[str]) -> None:
    gone = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    environment = {name: value for name, value in os.environ.items() if name not in gone}
    ended = subprocess.run([sys.executable, "-m", "sdviewer", *words], env=environment, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("sdviewer: there is no display")
    assert ended.stderr.count("\n") == 1


def test_that_a_comparison_is_drawn_into_a_picture(tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 2.0)):
        torch.save({"fc.weight": torch.full((3, 4), value)}, tmp_path / f"{name}.pth")
    out = tmp_path / "out.png"
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    words = ["--screenshot", str(out), str(tmp_path / "a.pth"), str(tmp_path / "b.pth")]
    ended = subprocess.run([sys.executable, "-m", "sdviewer", *words], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert out.read_bytes().startswith(b"\x89PNG")


def drawn(out: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """What `sdviewer --screenshot OUT WORDS...` ends with."""
    command = [sys.executable, "-m", "sdviewer", "--screenshot", str(out), *map(str, words)]
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_that_a_folder_of_a_run_or_its_files_are_drawn_into_a_picture(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for epoch in range(3):
        torch.save({"fc.weight": torch.full((3, 4), float(epoch))}, run / f"epoch{epoch}.pth")
    for words in ([run], ["--series", *run.iterdir()]):
        ended = drawn(tmp_path / "out.png", *words)
        assert ended.returncode == 0, ended.stderr
        assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
        (tmp_path / "out.png").unlink()
    ended = drawn(tmp_path / "out.png", *run.iterdir())
    assert ended.returncode == 2
    assert "--series" in ended.stderr
    ended = drawn(tmp_path / "out.png", "--series", run / "epoch0.pth")
    assert ended.returncode == 3
    assert "not two checkpoints" in ended.stderr


def test_that_a_series_of_nothing_is_wrong_usage() -> None:
    ended = subprocess.run([sys.executable, "-m", "sdviewer", "--series"], capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("sdviewer: --series needs")

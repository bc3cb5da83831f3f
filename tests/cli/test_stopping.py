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


def test_that_ctrl_c_gives_up_a_load_that_hangs_and_keeps_the_file(
    sdviewer: Command, training: Path, strip: Path, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(
        "import os, signal, time\nimport torch\n\nclass Net(torch.nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.fc = torch.nn.Linear(3, 2)\n"
        "        self.tied = self.fc.weight\n\n    def load_state_dict(self, *given, **how):\n"
        "        open(__file__ + '.pid', 'w').write(str(os.getpid()))\n"
        "        os.kill(os.getppid(), signal.SIGINT)\n        time.sleep(1000)\n"
    )
    out = tmp_path / "out.pt"
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        ran = sdviewer("repair", training, "--recipe", strip, "-o", out, "--target", f"{tmp_path}/net.py:Net", "--json")
    finally:
        signal.signal(signal.SIGINT, ours)
    assert (ran.code, out.exists(), ran.json["verified"]["target"]) == (1, True, False)
    assert ran.json["warnings"][-1]["message"].endswith("with load_state_dict(strict=True): it was stopped")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "net.py.pid").read_text()), 0)

"""The set-up command, as far as it can be tried without setting anything up."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import sdviewer

ROOT = Path(sdviewer.__file__).parent.parent
MISSING = {"libdoesnotexist.so.9": "libdoesnotexist9"}


@pytest.fixture
def dev() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dev", ROOT / "packaging" / "dev.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fake_apt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An apt-get and apt-cache that only write down how they were called."""
    for name in ("apt-get", "apt-cache"):
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/calls\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "calls"


def test_that_without_root_the_one_line_to_run_is_told_and_nothing_installed(
    dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_apt(tmp_path, monkeypatch)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(dev.SetupError, match="sudo apt-get install -y --no-install-recommends libdoesnotexist9 nope\n"):
        dev.install_system_packages(MISSING, {"no-such-program": "nope", "sh": "dash"})

    assert "apt-get" not in (calls.read_text() if calls.exists() else "")


def test_that_root_installs_what_is_missing_and_hears_if_it_is_missing_still(
    dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_apt(tmp_path, monkeypatch)
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    with pytest.raises(dev.SetupError, match="still missing: libdoesnotexist"):
        dev.install_system_packages(MISSING, {})

    assert "install -y -qq --no-install-recommends libdoesnotexist9" in calls.read_text()


def test_that_a_system_without_apt_is_told_the_libraries(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(dev.SetupError, match="lacks libdoesnotexist"):
        dev.install_system_packages(MISSING, {})


def test_that_one_failed_step_fails_the_whole_and_the_others_still_run(
    dev: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def step(name: str, code: int) -> tuple[str, object]:
        return name, lambda: ran.append(name) or code

    assert dev._steps((step("lint", 0), step("types", 1), step("tests", 0)), "test") == 1

    assert ran == ["lint", "types", "tests"]
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("dev.py: test: 2 of 3 steps passed in ")
    assert last.endswith("; FAILED: types")
    assert dev._steps((step("lint", 0),), "test") == 0


def test_that_no_other_torch_than_a_cpu_build_satisfies_the_constraint_on_linux() -> None:
    lines = (ROOT / "packaging" / "constraints-cpu.txt").read_text().splitlines()

    assert [line for line in lines if line.startswith("torch") and '== "linux"' in line and "+cpu" in line]
    assert not [line for line in lines if line.startswith("torch") and '!= "linux"' not in line and "+cpu" not in line]


def test_that_an_unknown_command_is_refused_with_the_list_of_commands() -> None:
    script = str(ROOT / "packaging" / "dev.py")

    answer = subprocess.run([sys.executable, script, "deploy"], capture_output=True, text=True, check=False)

    assert answer.returncode == 2
    assert all(name in answer.stderr for name in ("run", "test", "bench", "corpus", "gate", "screenshots"))

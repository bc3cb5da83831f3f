from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.sources import make_sources

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_sources(tmp_path_factory.mktemp("sources"))


def tried(trial: str, folder: Path, sources: list[Path]) -> Any:
    """What a trial found, in a process of its own."""
    command = [sys.executable, "-m", "tests.faults.trials", trial, str(folder), *map(str, sources)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_that_whatever_call_fails_or_is_the_last_there_is_the_old_file_or_the_new_one(
    sources: list[Path], tmp_path: Path
) -> None:
    found = tried("every_call", tmp_path, sources)
    assert found["wrong"] == []
    ends = found["ends"]
    assert min(ends["EIO: refused"], ends["ENOSPC: refused"]) > 1000
    assert min(ends["EIO: saved"], ends["ENOSPC: saved"]) > 100  # such as a failure after the file is in its place
    assert ends["kill: killed"] > 100
    assert sum(ends.values()) == found["saves"]


def test_that_the_same_faults_show_what_a_writer_that_takes_no_care_destroys(
    sources: list[Path], tmp_path: Path
) -> None:
    wrong = "\n".join(tried("naive", tmp_path, sources[:1])["wrong"])
    for place in ("new", "overwrite", "symlink"):
        for fault in ("EIO", "ENOSPC", "kill"):
            assert f"zip.pt {place} {fault} at call 3, write" in wrong
    assert "a broken file of 50000 bytes stands there" in wrong


@pytest.mark.parametrize(
    ("trial", "ends"),
    [
        ("part_of_the_work", {"short: saved": 27, "interrupted: saved": 27}),
        ("lies", {"turned: refused": 234}),
        ("limits", {"limit: refused": 144, "limit: saved": 9}),
        ("cancels", {}),
        ("changed_source", {}),
    ],
)
def test_that_a_save_meets_it_with_the_new_file_or_the_old_one_and_a_reason(
    sources: list[Path], tmp_path: Path, trial: str, ends: dict[str, int]
) -> None:
    found = tried(trial, tmp_path, sources)
    assert found["wrong"] == []
    assert {how: found["ends"].get(how) for how in ends} == ends
    assert found["saves"] > 50

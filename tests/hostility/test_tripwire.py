"""Nothing in a file runs, whatever is done with the file; and a scan says what would run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hostility.gadget_sets import HostileSet, hdf5_files, honest_sets, hostile_sets
from tests.hostility.gadgets import HostileFile, bodies, honest_files, hostile_files
from tests.hostility.tripwire import ACTS

ROOT = Path(__file__).resolve().parents[2]
FILES = list(hostile_files())
SETS = list(hostile_sets())


def child(mode: str, folder: Path) -> dict[str, Any]:
    """The JSON that the tripwire process prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", "tests.hostility.tripwire", mode, str(folder)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=folder)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def put(folder: Path, name: str, found: HostileSet) -> None:
    """Write the files of a set, and what is to be known of it beside them."""
    for path, data in found.files.items():
        (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / name / path).write_bytes(data)
    (folder / f"{name}.json").write_text(json.dumps({"opened": found.opened, "naive": found.naive}))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the tripwire saw of every file, by its name."""
    folder = tmp_path_factory.mktemp("tripwire")
    for name in ("files", "honest", "out"):
        (folder / name).mkdir()
    for i, (_, data) in enumerate(honest_files()):
        (folder / "honest" / f"{i:03}.pt").write_bytes(data)
    for i, file in enumerate(FILES):
        (folder / "files" / f"{i:03}.pt").write_bytes(file.data)
    for i, honest in enumerate(honest_sets()):
        put(folder / "honest", f"s{i:03}", honest)
    for i, hostile in enumerate(SETS):
        put(folder / "files", f"s{i:03}", hostile)
    found = child("look", folder)
    files = {file.name: found[f"{i:03}.pt"] for i, file in enumerate(FILES)}
    return files | {hostile.name: found[f"s{i:03}"] for i, hostile in enumerate(SETS)}


def test_that_nothing_runs_whatever_is_done_with_a_hostile_file(seen: dict[str, Any]) -> None:
    assert {name: told["caught"] for name, told in seen.items() if told["caught"]} == {}
    assert len(list(bodies())) >= 60


@pytest.mark.parametrize("file", [*FILES, *SETS], ids=lambda file: file.name)
def test_that_a_scan_says_what_would_run(seen: dict[str, Any], file: HostileFile | HostileSet) -> None:
    assert seen[file.name]["steps"]["scan"] in file.verdicts


def test_that_a_hostile_file_is_shown_and_measured_like_any_other(seen: dict[str, Any]) -> None:
    measured = [told["steps"]["show and measure"] for told in seen.values()]
    assert sum(steps.endswith(" measured") and not steps.startswith("0") for steps in measured) > len(FILES) * 0.8


def test_that_a_save_never_makes_a_hostile_file_look_better(seen: dict[str, Any]) -> None:
    saved = {name: told["steps"] for name, told in seen.items() if not told["steps"]["save"].startswith("refused")}
    assert {name: steps for name, steps in saved.items() if steps["save"] != steps["scan"]} == {}
    assert len(saved) > len(FILES) * 0.6


def test_that_the_tripwire_trips_when_a_pickle_is_really_loaded(tmp_path: Path) -> None:
    names = []
    (tmp_path / "pickles").mkdir()
    for file in (*FILES, *SETS):
        for data in file.pickles:
            (tmp_path / "pickles" / f"{len(names):03}").write_bytes(data)
            names.append(file.name)
    found = child("unpickle", tmp_path)
    for event in ACTS:
        assert found.pop(event)["caught"][0].startswith(f"{event} ")
    silent = {names[int(number)] for number, told in found.items() if not told["caught"]}
    # An extension code and a number as persistent id do nothing by themselves in a Python that has no such code.
    assert silent <= {f"zip, {name}" for name in ("wide extension code", "persistent id", "text persistent id")}


def test_that_a_gadget_in_a_folder_or_an_array_really_runs_where_one_trusts_it(tmp_path: Path) -> None:
    trusted = [hostile for hostile in SETS if hostile.naive]
    for i, hostile in enumerate(trusted):
        put(tmp_path / "files", f"s{i:03}", hostile)
    found = child("naive", tmp_path)
    silent = {trusted[int(name[1:])].name for name, told in found.items() if not told["caught"]}
    assert silent == set()
    assert {hostile.naive for hostile in trusted} == {"dcp", "numpy", "package", "shard"}


def test_that_the_process_that_reads_hdf5_opens_no_other_file_and_runs_nothing(tmp_path: Path) -> None:
    names = []
    for folder in ("files", "honest"):
        (tmp_path / folder).mkdir()
    for title, data in hdf5_files():
        put(tmp_path / "files", f"s{len(names):03}", HostileSet(title, {"m.h5": data}, "m.h5", ()))
        names.append(title)
    put(tmp_path / "honest", "s", next(honest for honest in honest_sets() if honest.name == "hdf5"))
    found = child("walk", tmp_path)
    assert {names[int(name[1:])]: told["caught"] for name, told in found.items() if told["caught"]} == {}
    assert sum('"path": ["w"]' in told["told"] for told in found.values()) >= len(names) - 1

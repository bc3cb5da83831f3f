"""The table of faults: everything that is done to a save, and what came of it. `python -m tests.faults.gate`.

Ends with 1 where a save did wrong, and where a control was not seen to do wrong: it then shows that nothing was tried.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.sources import make_sources

ROOT = Path(__file__).parents[2]
TRIALS = {
    "every_call_and_kill": "each call of os: EIO, ENOSPC, killed before it",
    "part_of_the_work": "short writes and reads, interrupted calls",
    "lies": "writes that lie, bytes turned on the disk",
    "limits": "a limit of each 1/16 of the file",
    "cancels": "a cancel at each moment",
    "changed_source": "the source cut, written over, replaced, removed",
}
LARGE = 2_000_000
"""Elements of the files whose saves are killed at random: large enough that the writing takes most of the time."""


class Row(NamedTuple):
    """One line of the table. `control`: of a writer or a disk that is meant to fail."""

    what: str
    saves: int
    ends: dict[str, int]
    wrong: list[str]
    seconds: float
    control: bool = False

    @property
    def failed(self) -> bool:
        return bool(self.wrong) is not self.control


def _child(module: str, *arguments: object, prefix: tuple[str, ...] = ()) -> Any:
    command = [*prefix, sys.executable, "-m", f"tests.faults.{module}", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


class Table:
    """The rows as they come, and what could not be run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[Row] = []
        self.not_run: list[str] = []
        self.started = time.monotonic()

    def place(self, name: str) -> Path:
        """A folder of its own for one module."""
        place = self.folder / name
        place.mkdir()
        return place

    def add(self, what: str, found: Any, *, control: bool = False) -> None:
        now = time.monotonic()
        row = Row(what, found["saves"], found["ends"], found["wrong"], now - self.started, control)
        self.started = now
        self.rows.append(row)
        wrong = f"{len(row.wrong):,} wrong" + (" (as it must be)" if control and row.wrong else "")
        ends: dict[str, int] = {}
        for end, n in row.ends.items():
            how = end.rpartition(": ")[2] if "reported" not in end else end
            ends[how] = ends.get(how, 0) + n
        said = ", ".join(f"{n:,} {how}" for how, n in sorted(ends.items(), key=lambda item: -item[1]))
        print(f"{row.what:<56} {row.saves:>7,}  {wrong:<26} {row.seconds:>5.0f} s  {said}", flush=True)
        for line in [] if control else row.wrong[:20]:
            print(f"    {line[:2000]}", flush=True)


def run(table: Table, kills: int, cuts: int) -> None:
    """All trials, the quick ones first."""
    small, large = make_sources(table.place("small")), make_sources(table.place("large"), LARGE)
    for name, what in TRIALS.items():
        table.add(what, _child("trials", name, table.place(name), *small))
    table.add(
        "control: the same to a naive writer", _child("trials", "naive", table.place("naive"), *small), control=True
    )
    found = _child("kills", table.place("kills"), kills, *large)
    table.add(f"{kills} random kills a container and place", found["save"])
    table.add("control: the same to a naive writer", found["control"], control=True)
    found = _child("kernel", table.place("kernel"), *small)
    if "not_run" in found:
        table.not_run.append(f"each call of the kernel: {found['not_run']}")
    else:
        table.add("each call of the kernel (strace): EIO, ENOSPC, killed", found)
    # Mounts of a namespace of its own end with it, whatever happens.
    alone = ("unshare", "-m") if os.geteuid() == 0 and shutil.which("unshare") else ()
    found = _child("disks", table.place("disks"), cuts, *small, prefix=alone)
    for what, trial in found["trials"].items():
        table.add(what, trial, control=what.startswith("control"))
    table.not_run += found["not_run"]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="random kills a container and place (of 9)")
    parser.add_argument("--cuts", type=int, default=300, help="power cuts a file system")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sdviewer-faults-") as folder:
        table = Table(Path(folder))
        run(table, options.kills, options.cuts)
    failed = [row for row in table.rows if row.failed]
    print(
        f"{sum(row.saves for row in table.rows):,} saves, {len(failed)} rows of {len(table.rows)} not as they must be"
    )
    for line in table.not_run:
        print(f"NOT RUN: {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

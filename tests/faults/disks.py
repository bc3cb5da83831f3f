"""Disks that fill up, and disks whose power is cut: file systems of their own, made and mounted for it.

`python -m tests.faults.disks FOLDER CUTS SOURCE ...` prints one JSON document: a list of trials, and what could not be
run and why. Needs to be root. Nothing but loop devices of files in FOLDER is mounted.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults.saves import OLD, PLACES, Scene
from tests.faults.system_calls import here
from tests.faults.trials import Report

LEVELS = 64
"""Sizes of a disk that are tried, each 1/64 of the new file more than the last."""

IMAGE = 64 << 20
"""Bytes of the disk whose power is cut; btrfs wants more."""

FILE_SYSTEMS = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
}
PACKAGES = {"ext4": "e2fsprogs", "xfs": "xfsprogs", "btrfs": "btrfs-progs"}
SIZES = {"xfs": 300 << 20, "btrfs": 120 << 20}
COPY_OPTIONS = {"xfs": "loop,nouuid"}
"""How a copy is mounted beside the disk that it is one of: xfs refuses a second disk of one name."""


def _run(*command: str) -> bool:
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


@contextmanager
def mounted(*what: str, at: Path) -> Iterator[Path]:
    """A file system, for as long as the block runs.

    Raises:
        OSError: it could not be mounted.
    """
    at.mkdir(parents=True, exist_ok=True)
    if not _run("mount", *what, str(at)):
        raise OSError(f"mount {' '.join(what)} failed")
    try:
        yield at
    finally:
        _run("umount", str(at)) or _run("umount", "-l", str(at))


# A disk that fills up


def full(folder: Path, sources: list[Path]) -> Report:
    """A disk of each size up to that of the new file, and one that can hold no more files."""
    report = Report()
    for source in sources:
        for place in PLACES:
            size = len(Scene(folder / "plain" / source.stem / place, source, place).new)
            for level in range(1, LEVELS + 1):
                with _disk(folder, f"size={max(size * level // LEVELS, 4096)}") as disk:
                    _on_full_disk(disk, source, place, f"level {level}/{LEVELS}", report)
            with _disk(folder, "size=64m,nr_inodes=8") as disk:
                _on_full_disk(disk, source, place, "inodes", report, fill=True)
    return report


@contextmanager
def _disk(folder: Path, options: str) -> Iterator[Path]:
    with mounted("-t", "tmpfs", "-o", options, "tmpfs", at=folder / "disk") as disk:
        yield disk


def _on_full_disk(disk: Path, source: Path, place: str, what: str, report: Report, *, fill: bool = False) -> None:
    new = Scene(disk.parent / "known", source, place).new
    scene = Scene(disk / "there", source, place, new)
    names = 0
    if fill:
        with suppress(OSError):
            while True:
                (disk / f"file {names}").touch()
                names += 1
    end = here(scene.save)
    # 64 KiB are left free, so that the last level, of the file's own size, is refused as well.
    report.note(scene, what, end, ends="refused", says="4 no_space")
    if not fill and " needs " not in end.said:
        report.wrong.append(f"{what}: the space needed is not told: {end.said}")


# A power cut


class Cut(Scene):
    """A save on a disk of its own; a copy of the disk at some moment is what a power cut then leaves."""

    def found(self, root: Path) -> bytes | None:
        """What stands at the place in the copy that is mounted at `root`."""
        there = root / self.real.relative_to(self.folder.parent)
        return there.read_bytes() if there.exists() else None


def power_cuts(folder: Path, kind: str, cuts: int, source: Path, *, synced: bool) -> Report:
    """Cut the power at random moments around a save; without `synced` nothing is synced, which is the control."""
    report = Report()
    image, copy = folder / f"{kind}.img", folder / f"{kind}.copy"
    with image.open("wb") as file:
        file.truncate(SIZES.get(kind, IMAGE))
    if not _run(*FILE_SYSTEMS[kind], str(image)):
        raise OSError(f"{FILE_SYSTEMS[kind][0]} failed")
    chance = random.Random(cuts)
    with mounted("-o", "loop", str(image), at=folder / "live") as live:
        for place in ("new", "overwrite"):
            scene = Cut(live / place, source, place)
            started = time.monotonic()
            scene.reset()
            scene.save()
            usual = time.monotonic() - started
            for number in range(cuts // 2):
                scene.reset()
                os.sync()
                after = chance.uniform(0, 1.5 * usual)
                reported = _cut(scene, after, image, copy, synced)
                with mounted("-o", COPY_OPTIONS.get(kind, "loop"), str(copy), at=folder / "after") as root:
                    found = scene.found(root)
                _judge_cut(scene, report, f"{kind} {place} cut {number}", found, reported)
    image.unlink()
    copy.unlink(missing_ok=True)
    return report


def _cut(scene: Scene, after: float, image: Path, copy: Path, synced: bool) -> bool:
    """Copy the disk some seconds after the start of a save; whether the save had been reported before."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if not synced:
                os.fsync = lambda fd: None
            os.write(writer, here(scene.save).how.encode())
        finally:
            os._exit(0)
    os.close(writer)
    time.sleep(after)
    os.set_blocking(reader, False)
    try:
        reported = os.read(reader, 100) == b"saved"
    except BlockingIOError:
        reported = False
    _run("cp", "--sparse=always", str(image), str(copy))
    os.waitpid(child, 0)
    os.close(reader)
    return reported


def _judge_cut(scene: Scene, report: Report, what: str, found: bytes | None, reported: bool) -> None:
    report.saves += 1
    old = None if scene.place == "new" else OLD
    name = "new" if found == scene.new else "old" if found == old else "broken"
    report.ends[f"{'reported' if reported else 'not reported'}: {name}"] += 1
    if name == "broken":
        report.wrong.append(f"{what}: a broken file of {len(found or b'')} bytes")
    elif reported and name == "old":
        report.wrong.append(f"{what}: saved, and after the cut nothing was")


def main() -> None:
    """`FOLDER CUTS SOURCE ...`."""
    _, place, cuts, *names = sys.argv
    folder, sources = Path(place), list(map(Path, names))
    trials: dict[str, Any] = {}
    not_run: list[str] = []

    def attempt(name: str, trial: Callable[[], Report]) -> None:
        try:
            found = trial()
        except OSError as error:
            not_run.append(f"{name}: {error}")
        else:
            trials[name] = {"saves": found.saves, "ends": found.ends, "wrong": found.wrong}

    if os.geteuid() != 0:
        not_run.append("full disks and power cuts: only root may mount file systems")
    else:
        attempt("full disk", lambda: full(folder, sources))
        for kind, make in FILE_SYSTEMS.items():
            if shutil.which(make[0]) is None:
                not_run.append(f"power cuts on {kind}: {make[0]} is not installed ({PACKAGES[kind]})")
                continue
            for name, synced in (("power cut", True), ("control, not synced", False)):
                attempt(f"{name}, {kind}", partial(power_cuts, folder, kind, int(cuts), sources[0], synced=synced))
    sys.stdout.write(json.dumps({"trials": trials, "not_run": not_run}) + "\n")


if __name__ == "__main__":
    main()

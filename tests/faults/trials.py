"""What is done to saves: each trial tries one kind of fault at every place where it can happen.

`python -m tests.faults.trials TRIAL FOLDER SOURCE ...` prints one JSON document: how many saves were tried, how they
ended, what was wrong. A process of its own, without torch and threads, so that a fork is cheap and clean.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdviewer.errors import Cancelled
from tests.faults.saves import PLACES, NaiveScene, Scene
from tests.faults.system_calls import (
    WRITING,
    Call,
    End,
    Fault,
    Watch,
    failing,
    fast,
    here,
    in_child,
    killed,
    lying,
    short,
    watched,
    without,
)

SYSTEMS: dict[str, tuple[str, ...]] = {
    "linux": (),
    # The other ways: a temporary file with a name, bytes that go through this process.
    "bare": ("O_TMPFILE", "copy_file_range", "sendfile"),
}


@dataclass
class Report:
    """What a trial found."""

    saves: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def note(self, scene: Scene, what: str, end: End, *, ends: str = "", says: str = "") -> None:
        """One save: `ends` is how it has to end, `says` what it has to say, "" for anything right."""
        self.saves += 1
        self.ends[f"{what.partition(' ')[0]}: {end.how}"] += 1
        found = scene.judge(end)
        if not found and ((ends and end.how != ends) or says not in end.said):
            found = f"it ended {end.how} and said {end.said!r}"
        if found:
            self.wrong.append(f"{scene.source.name} {scene.place} {what}: {found}")


def calls_of(scene: Scene, usual: Fault) -> list[tuple[str, bool]]:
    """The calls of a save without faults, and whether each changes the disk."""
    scene.reset()
    with watched(Watch(usual)) as watch:
        scene.save()
    return watch.seen


def saving(scene: Scene, usual: Fault, at: int = 0, fault: Fault | None = None) -> Callable[[], None]:
    """A save in a system where `usual` is what calls do and `fault` what call number `at` does."""

    def task() -> None:
        with watched(Watch(usual, at, fault)):
            scene.save()

    return task


def every_call(scene: Scene, report: Report, *, kill_always: bool = False) -> None:
    """Each call fails once with EIO and once with ENOSPC, and the process is killed once before it.

    Killed before each call only with `kill_always`, else where the disk is not as it was before the last call: between
    two calls that only look, a kill leaves the same.
    """
    for system, absent in SYSTEMS.items():
        if absent and scene.place == "symlink":
            continue  # a link is followed before the ways part
        usual = without(*absent, otherwise=fast)
        changed = True
        for at, (name, changing) in enumerate(calls_of(scene, usual), 1):
            what = f"at call {at}, {name} ({system})"
            for code in (errno.EIO, errno.ENOSPC):
                scene.reset()
                end = here(saving(scene, usual, at, failing(code)))
                full = code == errno.ENOSPC and end.how == "refused" and name in FILLING
                report.note(scene, f"{errno.errorcode[code]} {what}", end, says="4 no_space" if full else "")
                if full and " needs " not in end.said:
                    report.wrong.append(f"{what}: the space needed is not told: {end.said}")
            if changed or kill_always:
                scene.reset()
                report.note(scene, f"kill {what}", in_child(saving(scene, usual, at, killed)), ends="killed")
            changed = changing


FILLING = ("pwrite", "copy_file_range", "_fallocate", "fsync", "link", "replace")
"""Calls that need room on the disk."""


def every_call_and_kill(scene: Scene, report: Report) -> None:
    """The same with a kill before each call: for the gate."""
    every_call(scene, report, kill_always=True)


def part_of_the_work(scene: Scene, report: Report) -> None:
    """Calls that move only a third of the bytes, in all ways of copying; signals that interrupt calls."""
    for absent in ((), ("copy_file_range",), ("copy_file_range", "sendfile")):

        def some(name: str, real: Call, args: Any, named: Any, absent: tuple[str, ...] = absent) -> Any:
            return without(*absent, otherwise=short)(name, real, args, named)

        scene.reset()
        report.note(scene, f"short without {absent}", here(saving(scene, some)), ends="saved")
    with interrupted():
        for _ in range(3):
            scene.reset()
            report.note(scene, "interrupted", here(scene.save), ends="saved")


@contextlib.contextmanager
def interrupted() -> Iterator[None]:
    """A signal every half millisecond that ends whatever call waits with EINTR."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, True)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def lies(scene: Scene, report: Report) -> None:
    """Writes that say they wrote and did not, and bytes turned on the disk: the read-back finds each of them."""
    for absent in SYSTEMS.values():
        usual = without(*absent, otherwise=fast)
        for at, (name, _) in enumerate(calls_of(scene, usual), 1):
            if name in WRITING and name not in absent:
                scene.reset()
                end = here(saving(scene, usual, at, lying))
                report.note(scene, f"lie at call {at}, {name}", end, ends="refused", says="4 not_verified")
    size = len(scene.new)
    first_sync = next(at for at, (name, _) in enumerate(calls_of(scene, fast), 1) if name == "fsync")
    for where in sorted({size * k // TURNED for k in range(TURNED)} | {size - 1, size - 20}):

        def turn(name: str, real: Call, args: Any, named: Any, where: int = where) -> None:
            fd = args[0]
            os.pwrite(fd, bytes([os.pread(fd, 1, where)[0] ^ 1]), where)

        scene.reset()
        end = here(saving(scene, fast, first_sync, turn))
        report.note(scene, f"turned byte {where}", end, ends="refused", says="4 not_verified")


TURNED = 24
"""Places of a file at which a byte is turned."""


def limits(scene: Scene, report: Report) -> None:
    """A file may not become larger than each sixteenth of the new file, then than all of it."""
    size = len(scene.new)
    for k in range(17):
        limit = size * k // 16

        def limited(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            scene.save()

        scene.reset()
        says = "" if k == 16 else "4 no_space"
        end = in_child(limited)
        report.note(scene, f"limit of {k}/16", end, ends="saved" if k == 16 else "refused", says=says)
        if k < 16 and "larger than a file may be here: needs " not in end.said:
            report.wrong.append(f"limit of {k}/16: it said {end.said}")


def cancels(scene: Scene, report: Report) -> None:
    """A cancel at every moment at which one can arrive."""
    moments = 0

    def count(done: int, total: int) -> None:
        nonlocal moments
        moments += 1

    scene.reset()
    scene.save(count)
    for moment in range(1, moments + 1):
        left = moment

        def cancel(done: int, total: int) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Cancelled

        scene.reset()
        report.note(scene, f"cancel {moment}", here(lambda cancel=cancel: scene.save(cancel)), ends="cancelled")


def changed_source(scene: Scene, report: Report) -> None:
    """The source is cut, written over, replaced and removed between any two calls of the save.

    What is saved then is of the file that was opened, or nothing is.
    """
    content = scene.source.read_bytes()
    spare = scene.folder.parent / "spare"
    middle = len(content) // 2

    def cut() -> None:
        os.truncate(scene.source, middle)

    def write_over() -> None:
        with scene.source.open("r+b") as file:
            file.seek(middle)
            file.write(bytes(byte ^ 255 for byte in content[middle : middle + 1000]))

    def write_over_in_secret() -> None:
        before = scene.source.stat()
        write_over()
        os.utime(scene.source, ns=(before.st_atime_ns, before.st_mtime_ns))

    def replace() -> None:
        spare.write_bytes(content[::-1])
        spare.replace(scene.source)

    calls = len(calls_of(scene, fast))
    for change in (cut, write_over, write_over_in_secret, replace, scene.source.unlink):
        for at in range(1, calls + 1, EACH):

            def meanwhile(name: str, real: Call, args: Any, named: Any, change: Any = change) -> Any:
                change()
                return fast(name, real, args, named)

            scene.reset()
            scene.source.unlink(missing_ok=True)
            scene.source.write_bytes(content)
            os.utime(scene.source, (1, 1))  # long ago: a change in the same tick of the clock as the opening is no news
            scene.open()
            report.note(scene, f"{change.__name__} before call {at}", here(saving(scene, fast, at, meanwhile)))
    scene.source.write_bytes(content)


EACH = 5
"""Before every fifth call the source is changed."""


TRIALS: dict[str, Callable[[Scene, Report], None]] = {
    trial.__name__: trial
    for trial in (every_call, every_call_and_kill, part_of_the_work, lies, limits, cancels, changed_source)
}


def run(name: str, folder: Path, sources: list[Path], kind: type[Scene] = Scene) -> Report:
    """One trial on each source and place."""
    report = Report()
    for source in sources:
        for place in PLACES:
            own = folder / source.stem / place
            own.mkdir(parents=True)
            copy = own / source.name
            copy.write_bytes(source.read_bytes())
            TRIALS[name](kind(own / "out", copy, place), report)
    return report


def main() -> None:
    """`TRIAL FOLDER SOURCE ...`; a trial called `naive` is the control, every call of a writer that takes no care."""
    _, name, folder, *sources = sys.argv
    paths = list(map(Path, sources))
    control = name == "naive"
    report = run("every_call" if control else name, Path(folder), paths, NaiveScene if control else Scene)
    found = {"saves": report.saves, "ends": report.ends, "wrong": report.wrong}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

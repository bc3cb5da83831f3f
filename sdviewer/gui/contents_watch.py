"""The check of a file's contents against its checksums: when it begins by itself, and what is known so far.

By itself it begins when the file has been opened and scanned and nobody writes to it, in a process of its own that lets
all others go first. It does not where that could be felt: above `AUTOMATIC` bytes (five seconds of a core, and as much
of the system's cache), where the file took long to open, or where it turns out slow; then a button offers it. One that
stands still is given up: the drive hangs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from PySide6.QtCore import QObject, QTimer, Signal

from sdviewer.core import text
from sdviewer.engine.client import Request
from sdviewer.gui.jobs import Body, Buffers, Job, Jobs, is_cancelled

AUTOMATIC: Final = 4 << 30
"""Bytes up to which a check begins by itself."""

QUIET: Final = 1500
"""Milliseconds between the scan of a file and the check: what is looked at first is read first."""

SLOW_OPENING: Final = 10.0
"""Seconds; where a file took longer to open, its drive or this machine has enough to do."""

LONGEST: Final = 60.0
"""Seconds that a check which nobody asked for may take."""

HANGS: Final = 10_000
"""Milliseconds without progress after which a drive is taken to hang."""

State = Literal["", "none", "offered", "checking", "done", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Contents:
    """What is known of the contents: `state`, how far a check is, what it found, or why there is none."""

    state: State = ""
    fraction: float = -1.0
    records: int = 0
    nbytes: int = 0
    unstated: int = 0
    wrong: int = 0
    problems: tuple[tuple[str, str, str, str], ...] = ()
    why: str = ""
    lost: int = 0
    broken_off: bool = False

    @property
    def offered(self) -> bool:
        """Whether a check is still to be asked for."""
        return self.state in ("offered", "stopped", "failed")

    def words(self) -> str:
        """In a few words, "" where there is nothing to say."""
        records = text.plural(self.records, "record")
        if self.state == "checking":
            return "checking contents" + (f", {int(self.fraction * 100)} %" if self.fraction > 0 else "")
        if self.state == "done":
            return self._found(records)
        return "contents not checked" if self.offered else ""

    def _found(self, records: str) -> str:
        if self.wrong:
            found = f"{self.wrong:,} of {records} damaged"
        elif self.lost:
            found = f"{self.records:,} of {text.plural(self.all_records, 'record')} verified"
        elif self.broken_off:
            found = f"{records} verified"
        else:
            return f"contents verified: {records}"
        if self.lost:
            return f"{found}, {self.lost:,} {self._what_lost}"
        return f"{found}, the end of the file is cut off" if self.broken_off else found

    @property
    def all_records(self) -> int:
        """All records that are known of, whether anything can be said of them or not."""
        return self.records + self.unstated + self.lost

    @property
    def _what_lost(self) -> str:
        return "cut off" if self.broken_off else "unreadable"

    def sentence(self) -> str:
        """What is known, as a sentence for the statement about the file."""
        records = text.plural(self.records, "record")
        if self.state == "none" and self.unstated:
            return "Its records state no checksums, so whether their bytes are those written cannot be told."
        if self.state == "none":
            return "Files of this kind state no checksums, so whether its bytes are those written cannot be told."
        if self.state == "checking":
            return "Its bytes are being compared with the checksums that it states."
        if self.state == "done" and self.wrong:
            return f"The bytes of {self.wrong:,} of {records} are not those that were written{self._rest()}."
        if self.state == "done":
            known = " that are known of" if self.broken_off else ""
            what = f"{self.records:,} of the {self.all_records:,} records{known}" if self.lost else records
            how = f"{_size(self.nbytes)}, each with the checksum that it states"
            return f"Contents verified: {what}, {how}{self._rest()}."
        if self.offered:
            return f"Its contents were not checked: {self.why}."
        return ""

    def _rest(self) -> str:
        """What could not be checked, to go on with."""
        parts = [f"{self.unstated:,} {'states' if self.unstated == 1 else 'state'} none"] if self.unstated else []
        if self.lost:
            parts.append(f"{self.lost:,} {'is' if self.lost == 1 else 'are'} {self._what_lost}")
        elif self.broken_off:
            parts.append("the end of the file is cut off")
        return "".join(f"; {part}" for part in parts)


def _size(nbytes: int) -> str:
    """A size that no line breaks in two."""
    return text.size(nbytes).replace(" ", "\N{NO-BREAK SPACE}")


Start = Callable[..., Request]


class ContentsWatch(QObject):
    """The one check of a session. `start` asks the engine for it; `ask` asks the document's worker."""

    changed = Signal()
    job_changed = Signal(str, float)

    def __init__(self, jobs: Jobs, ask: Callable[..., Any], start: Start, parent: QObject) -> None:
        super().__init__(parent)
        self.known = Contents()
        self._jobs, self._ask, self._start = jobs, ask, start
        self._identity: Mapping[str, int] = {}
        self._job: Job | None = None
        self._asked_for = False
        self._began = 0.0
        self._slow = False
        self._begin = QTimer(self, interval=QUIET, singleShot=True)
        self._begin.timeout.connect(self._look)
        self._hangs = QTimer(self, interval=HANGS, singleShot=True)
        self._hangs.timeout.connect(lambda: self._give_up("the drive does not answer"))

    @property
    def not_checkable(self) -> str:
        """Why no check can be asked for now, "" where one can."""
        if self.known.state == "none":
            return self.known.sentence()
        return "The contents are being checked." if self.known.state == "checking" else ""

    def forget(self) -> None:
        """The file is read anew."""
        self.stop()
        self._say(Contents())

    def opened(self, identity: Mapping[str, int], seconds: float) -> None:
        """The file is there, after so many seconds."""
        self._identity = identity
        self._slow = seconds > SLOW_OPENING

    def scanned(self) -> None:
        """What is more urgent is done."""
        if not self.known.state:
            self._begin.start()

    def postpone(self) -> None:
        """Somebody may be writing to the file: not now."""
        if self._begin.isActive():
            self._begin.start()

    def check(self) -> None:
        """Check now, because somebody asked for it."""
        if self.known.state == "checking":
            return
        self._begin.stop()
        self._asked_for = True
        self._count(self._run)

    def stop(self) -> None:
        """End a check, and do not begin one."""
        self._begin.stop()
        self._hangs.stop()
        if self._job is not None:
            self._job.dropped = True
            self._job.cancel()
            self._job = None

    def cancel(self) -> None:
        """Somebody does not want to wait for it."""
        self._give_up("it was stopped")

    def _look(self) -> None:
        self._asked_for = False
        self._count(self._begin_or_offer)

    def _count(self, then: Callable[[Contents], None]) -> None:
        """Find out how much there is to be checked, if anything."""

        def counted(body: Body, buffers: Buffers) -> None:
            records, nbytes, unstated = int(body["records"]), int(body["bytes"]), int(body["unstated"])
            found = Contents("none" if not records else "", -1.0, records, nbytes, unstated)
            if records:
                then(found)
            else:
                self._say(found)

        self._ask("checkable", {}, counted, lambda failure: None, lane="checkable")

    def _begin_or_offer(self, found: Contents) -> None:
        why = ""
        if found.nbytes > AUTOMATIC:
            why = f"{_size(found.nbytes)} would have to be read"
        elif self._slow:
            why = "it took long to open"
        if why:
            self._say(replace(found, state="offered", why=why))
        else:
            self._run(found)

    def _run(self, found: Contents) -> None:
        self._began = time.monotonic()
        self._say(replace(found, state="checking", fraction=0.0))
        self._hangs.start()
        self._job = self._jobs.run(
            "contents",
            lambda done, failed, progressed: self._start(self._identity, done, failed, progressed),
            self._done,
            self._failed,
            self._progressed,
            background=True,
        )

    def _progressed(self, fraction: float) -> None:
        self._hangs.start()
        seconds = time.monotonic() - self._began
        if not self._asked_for and seconds > LONGEST / 10 and fraction * LONGEST < seconds:
            self._give_up("it would take more than a minute")
            return
        # In whole percents: whoever listens says no more.
        self._say(replace(self.known, fraction=int(max(fraction, 0.0) * 100) / 100))

    def _done(self, body: Body, buffers: Buffers) -> None:
        self._job = None
        self._hangs.stop()
        problems = tuple((str(a), str(b), str(c), str(d)) for a, b, c, d in body["problems"])
        records, nbytes, unstated, wrong = (int(body[name]) for name in ("records", "nbytes", "unstated", "wrong"))
        lost, broken_off = int(body["lost"]), bool(body["broken_off"])
        self._say(Contents("done", 1.0, records, nbytes, unstated, wrong, problems, lost=lost, broken_off=broken_off))

    def _failed(self, failure: Body) -> None:
        self._job = None
        self._hangs.stop()
        message = text.visible(str(failure.get("message") or "it failed"), 300)
        why = "it was stopped" if is_cancelled(failure) else message
        self._say(replace(self.known, state="failed", fraction=-1.0, why=why))

    def _give_up(self, why: str) -> None:
        if self.known.state == "checking":
            self.stop()
            self._say(replace(self.known, state="stopped", fraction=-1.0, why=why))

    def _say(self, known: Contents) -> None:
        if known == self.known:
            return
        self.known = known
        if self._asked_for:
            running = known.state == "checking"
            self.job_changed.emit("Checking contents" if running else "", known.fraction if running else -1.0)
        self.changed.emit()

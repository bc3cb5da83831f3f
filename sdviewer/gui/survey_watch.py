"""The statistics of all tensors of a document: when they are measured by themselves, how far that is, what is known.

By themselves they are measured when the file is open, in processes of their own that let all others go first, what is
in sight before the rest. Above `AUTOMATIC` bytes that would be felt: then so much is measured, and the rest is offered.
So it is where the file took long to open, or it turns out slow. One that stands still is given up: the drive hangs.

What a process measured goes on to the document's worker, which answers with what the tree shows of it and keeps it for
the next time; no number is computed here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal

from PySide6.QtCore import QObject, QTimer, Signal

from sdviewer.core import text
from sdviewer.engine.client import Worker
from sdviewer.gui.jobs import Body, Buffers, Jobs

AUTOMATIC: Final = 4 << 30
"""Bytes that are read without being asked for ..."""

REST: Final = 64 << 20
"""... and so many more, a process, where that is all that is left: nobody wants to be asked about so little."""

QUIET: Final = 1000
"""Milliseconds between the opening of a file and the first measurement: what is looked at first is read first."""

SLOW_OPENING: Final = 10.0
"""Seconds; where a file took longer to open, its drive or this machine has enough to do."""

LONGEST: Final = 300.0
"""Seconds that are spent without being asked for."""

HANGS: Final = 60_000
"""Milliseconds without progress after which a drive is taken to hang. What goes behind everything else can wait long
for a core, and compiles its loops the first time."""

PART: Final = 0.3
"""Seconds of work that are asked for at once: so often the tree is told, so soon what came into sight has its turn."""

FIRST_PART: Final = 0.1
"""The same for the first part, which everybody waits for."""

ALL: Final = 1 << 62
"""More bytes than any file has."""

REFRESH: Final = 1.5
"""Seconds between two times that a filter or an order by numbers is carried out anew while they come."""

KEEP: Final = 20.0
"""Seconds between two times that what is measured is kept for the next time that the file is opened."""

MOST_SHARES: Final = 2
"""Processes that measure one file ..."""

BYTES_A_SHARE: Final = 64 << 20
"""... one for each so many bytes of it, if there are as many cores."""

MOST_WAITING: Final = 4
"""Answers of the document's worker that are waited for before more is measured."""

State = Literal["", "offered", "measuring", "done", "failed", "changed"]


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What is measured: `known` of all `tensors`, `left` bytes to be read; and why it does not go on."""

    state: State = ""
    known: int = 0
    tensors: int = 0
    nbytes: int = 0
    left: int = 0
    fraction: float = -1.0
    why: str = ""
    words: tuple[str, str] = ("Statistics", "Measure")

    @property
    def offered(self) -> bool:
        """Whether the rest is still to be asked for."""
        return self.state in ("offered", "failed")

    @property
    def counts(self) -> str:
        """How many of how many."""
        return f"{self.known:,} / {self.tensors:,}"

    def offer(self) -> tuple[str, str]:
        """What measures the rest, and why it was not; "" where nothing is to be offered."""
        if not self.offered:
            return "", ""
        rest = f", {text.size(self.left)}" if self.left else ""
        what, act = self.words
        return f"{what} {self.counts} · {act} {'the rest' if self.known else 'all'}{rest}", f"{self.why}."


@dataclass(eq=False, slots=True)
class _Share:
    """One process, and how far it is with its tensors."""

    number: int
    worker: Worker
    lanes: str = "survey"
    busy: bool = False
    begun: bool = False
    done: bool = False
    known: int = 0
    tensors: int = 0
    nbytes: int = 0
    left: int = 0
    spent: int = 0
    fraction: float = 0.0

    @property
    def lane(self) -> str:
        """Where its answers are waited for."""
        return f"{self.lanes} {self.number}"

    def take(self, body: Body) -> None:
        """It answered."""
        self.busy, self.begun = False, True
        self.known, self.tensors = int(body["known"]), int(body["tensors"])
        self.nbytes, self.left = int(body["nbytes"]), int(body["left"])
        self.spent += int(body["spent"])
        self.fraction = 1 - self.left / self.nbytes if self.nbytes else 1.0


_MEASURING: Final[set[SurveyWatch]] = set()


class SurveyWatch(QObject):
    """The one survey of a session. `tell` takes measurements on to the document's worker, `sight` says which tensors
    are on the screen, `measured` which the document's worker knows already.
    """

    changed = Signal()
    job_changed = Signal(str, float)

    service = "survey"
    lanes = "survey"
    nothing = Surveyed()
    """What is known before anything is."""

    def __init__(self, jobs: Jobs, tell: Callable[..., Any], path: str, parent: QObject) -> None:
        super().__init__(parent)
        self.known = self.nothing
        self.sight: Callable[[], list[int]] = list
        self.measured: Callable[[], Buffers] = dict
        self._jobs, self._tell, self._path = jobs, tell, path
        self._identity: Mapping[str, int] = {}
        self._nbytes = self._tensors = 0
        self._slow = False
        self._shares: list[_Share] = []
        self._asked_for = False
        self._began = self._refreshed = self._kept = 0.0
        self._waiting = self._turn = 0
        self._begin = QTimer(self, interval=QUIET, singleShot=True)
        self._begin.timeout.connect(self._begin_in_turn)
        self._look = QTimer(self, interval=QUIET, singleShot=True)
        self._look.timeout.connect(self._look_for_kept)
        self._hangs = QTimer(self, interval=HANGS, singleShot=True)
        self._hangs.timeout.connect(lambda: self._give_up("The drive does not answer"))

    @property
    def not_measurable(self) -> str:
        """Why nothing can be measured now, "" where it can."""
        if self.known.state == "done":
            return "All tensors are measured."
        return "The tensors are being measured." if self.known.state == "measuring" else ""

    @property
    def was_asked_for(self) -> bool:
        """Whether somebody wanted all measured, however long it takes."""
        return self._asked_for

    def forget(self) -> None:
        """The file is read anew."""
        self.stop()
        self._say(self.nothing)

    def opened(self, identity: Mapping[str, int], tensors: int, nbytes: int, seconds: float) -> None:
        """The file is there, after so many seconds."""
        self._identity, self._nbytes = identity, nbytes
        self._asked_for = False
        self._slow = seconds > SLOW_OPENING
        self._tensors = tensors
        if tensors:
            self._look.start()

    def _look_for_kept(self) -> None:
        """See what is known from the last time that this file was open."""
        self._tell({}, {"kept": True}, self._of_this_turn(self._kept_told))

    def _kept_told(self, known: int) -> None:
        if self.known.state:
            return  # somebody asked for it meanwhile
        if known == self._tensors:
            done = replace(self.nothing, state="done", known=known, tensors=known)
            self._say(replace(done, nbytes=self._nbytes, fraction=1.0))
        elif self._slow:
            why = "It took long to open"
            self._say(replace(self.nothing, state="offered", known=known, tensors=self._tensors, why=why))
        else:
            self._begin_in_turn()

    def measure(self) -> None:
        """Measure all that is not, because somebody asked for it."""
        if self.known.state not in ("measuring", "done"):
            self._asked_for = True
            self._begin_now()

    def again(self) -> None:
        """The document's worker was started anew and knows nothing any more."""
        if self.known.known:
            self.stop()
            self._say(self.nothing)
            self._look_for_kept()

    def cancel(self) -> None:
        """Somebody does not want it to go on; what is measured stays."""
        self._give_up("It was stopped")

    def stop(self) -> None:
        """End it, and do not begin."""
        self._begin.stop()
        self._look.stop()
        self._hangs.stop()
        self._turn += 1
        _MEASURING.discard(self)
        for share in self._shares:
            self._jobs.drop(share.lane)
            share.worker.stop(wait=False)
        self._shares = []

    def _of_this_turn(self, told: Callable[[int], None]) -> Callable[[int], None]:
        """What takes an answer, unless it comes when all was stopped: it may be about the file as it was before."""
        turn = self._turn
        return lambda known: told(known) if turn == self._turn else None

    # A part at a time

    def _begin_in_turn(self) -> None:
        """Begin when no other file is measured: several at once would only be in each other's way."""
        if _MEASURING:
            self._begin.start()
        else:
            self._begin_now()

    def _begin_now(self) -> None:
        self._begin.stop()
        self._look.stop()
        _MEASURING.add(self)
        self._began = self._kept = time.monotonic()
        self._waiting = 0
        self._say(replace(self.known, state="measuring", why=""))
        if not self._shares:
            several = min(self._nbytes, MOST_SHARES * BYTES_A_SHARE) // BYTES_A_SHARE
            number = max(1, min(several, MOST_SHARES, os.cpu_count() or 1))
            self._shares = [_Share(at, Worker(self.service), self.lanes) for at in range(number)]
        for share in self._shares:
            asked = {**self._files(), "share": share.number, "shares": len(self._shares)}
            self._request(share, "begin", asked, self.measured())

    def _files(self) -> dict[str, Any]:
        """Of what file a process measures tensors."""
        return {"path": self._path, "identity": dict(self._identity)}

    def _request(self, share: _Share, name: str, params: Mapping[str, Any], buffers: Buffers | None = None) -> None:
        ask = partial(share.worker.request, name, params, buffers=buffers)
        share.busy = True
        self._hangs.start()
        self._jobs.run(
            share.lane,
            lambda done, failed, progressed: ask(done=done, failed=failed, progressed=progressed),
            partial(self._measured, share),
            self._failed,
            partial(self._progressed, share),
            background=True,
        )

    def _next(self) -> None:
        """Let those that wait for it measure one more part."""
        for share in self._shares:
            if share.busy or share.done or self._waiting >= MOST_WAITING or self.known.state != "measuring":
                continue
            if not self._asked_for and time.monotonic() - self._began > LONGEST:
                self._give_up("It takes long")
                return
            seconds = PART if share.spent else FIRST_PART
            most = AUTOMATIC // len(self._shares) - share.spent
            if self._asked_for or share.left <= most + REST:
                most = ALL
            self._request(share, "measure", {"first": self.sight(), "seconds": seconds, "most": most})

    def _measured(self, share: _Share, body: Body, buffers: Buffers) -> None:
        share.take(body)
        if not any(one.busy for one in self._shares):
            self._hangs.stop()
        came = len(buffers.get("indices", b"")) > 0
        # A share that got nothing done has nothing left that it may read.
        share.done = share.known == share.tensors or not (came or body["begun"])
        self._count()
        over = all(one.done for one in self._shares)
        if came:
            self._waiting += 1
            now = time.monotonic()
            refresh, keep = over or now - self._refreshed > REFRESH, over or now - self._kept > KEEP
            self._refreshed = now if refresh else self._refreshed
            self._kept = now if keep else self._kept
            self._tell(buffers, {"refresh": refresh, "keep": keep}, self._of_this_turn(self._told))
        if over and self.known.left:
            self._give_up(f"{text.size(self.known.left)} would have to be read")
        elif over:
            self.stop()
            self._say(replace(self.known, state="done"))
        else:
            self._next()

    def _count(self) -> None:
        """What all shares have done."""
        shares = self._shares
        if not all(share.begun for share in shares):
            return
        known, tensors = sum(share.known for share in shares), sum(share.tensors for share in shares)
        nbytes, left = sum(share.nbytes for share in shares), sum(share.left for share in shares)
        fraction = sum(share.fraction * share.nbytes for share in shares) / nbytes if nbytes else 1.0
        # In whole percents: whoever listens says no more.
        fraction = int(fraction * 100) / 100
        self._say(replace(self.known, known=known, tensors=tensors, nbytes=nbytes, left=left, fraction=fraction))

    def _told(self, known: int) -> None:
        """The document's worker has it; it knows so many now."""
        self._waiting = max(self._waiting - 1, 0)
        self._next()

    def _progressed(self, share: _Share, fraction: float) -> None:
        self._hangs.start()
        if share.begun:  # before, it tells how far the file is opened
            share.fraction = fraction
            self._count()

    def _failed(self, failure: Body) -> None:
        self.stop()
        message = text.visible(str(failure.get("message") or "it failed"), 300)
        # What has changed is told by the banner; measuring it again is no way out.
        state: State = "changed" if failure.get("code") == "file_changed" else "failed"
        self._say(replace(self.known, state=state, why=message[:1].upper() + message[1:]))

    def _give_up(self, why: str) -> None:
        if self.known.state == "measuring":
            self.stop()
            self._tell({}, {"refresh": True, "keep": True}, lambda known: None)
            self._say(replace(self.known, state="offered", why=why))

    def _say(self, known: Surveyed) -> None:
        if known == self.known:
            return
        self.known = known
        running = known.state == "measuring" and known.tensors > 0
        words = f"{known.words[0]} {known.counts}" if running else ""
        self.job_changed.emit(words, known.fraction if running else -1.0)
        self.changed.emit()

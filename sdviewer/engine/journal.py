"""Edits that no file has yet, kept in the user's own folder: a crash of window or machine loses none of them.

A journal is one file of JSON lines for each document that was edited, `{"crc":"89abcdef","is":...}`. The first is the
header, each other one a change of the edit history. The checksum of a line goes on from that of the line before it, so
that one which is torn, damaged, doubled, missing or moved ends what is believed: what is read back is always a history
that was there. Steps are small; no bytes of a tensor are ever in it.

A journal is locked as long as its process lives, so that no other window offers its edits. It goes when its document is
closed or its edits are saved, and never by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import sdviewer
from sdviewer.repair.history import Draft, History, State, Step

FORMAT: Final = "sdviewer-journal/1"
SUFFIX: Final = ".jsonl"
LARGEST: Final = 256 * 2**20
"""Bytes of a journal that is read."""

Line = Mapping[str, Any]
_BEFORE, _BETWEEN, _AFTER = b'{"crc":"', b'","is":', b"}"


@dataclass(frozen=True, slots=True)
class Document:
    """What a journal is about: the file at `path` (absolute) as it was opened (`identity`, of `info`)."""

    path: str
    identity: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Recovered:
    """The edits of a window that ended without a word: `written` is when the last was made (seconds since the epoch).

    `whole`: everything in the journal could be read; else later edits are lost.
    """

    file: Path
    document: Document
    history: History
    written: float
    whole: bool = True


# Histories as lines


def lines_between(old: History, new: History) -> list[Line]:
    """The changes that lead from one history to another."""
    lines: list[Line] = []
    if new.states != old.states:
        kept = min(len(new.states) - 1, old.index + 1)
        if new.states[:kept] != old.states[:kept] or kept < old.index + 1:
            return [{"do": "anew"}, *lines_between(History(), new)]
        current = old
        for state in new.states[kept:]:
            lines.append(_put(current.draft, state))
            current = current.put(state.draft, state.label)
            if state.draft == new.saved != current.saved:
                current = current.mark_saved()
                lines.append({"do": "saved"})
        old = current
    if new.saved != old.saved and new.draft == new.saved:
        return [*lines, *_moves(old.index, new.index), {"do": "saved"}]
    return [*lines, *_moves(old.index, new.index)]


def _moves(old: int, new: int) -> list[Line]:
    return [{"do": "undo" if new < old else "redo"}] * abs(new - old)


def _put(before: Draft, state: State) -> Line:
    """A new state: where its steps differ from those before, and its label."""
    draft, steps, old = state.draft, state.draft.steps, before.steps
    shorter = min(len(steps), len(old))
    start = next((i for i in range(shorter) if steps[i] != old[i]), shorter)
    tail = next((i for i in range(shorter - start) if steps[-1 - i] != old[-1 - i]), shorter - start)
    line: dict[str, Any] = {
        "do": "put",
        "label": state.label,
        "at": start,
        "out": len(old) - tail - start,
        "in": [[dict(step.table), step.label] for step in steps[start : len(steps) - tail]],
    }
    return line if draft.head == before.head else {**line, "head": dict(draft.head)}


def follow(history: History, line: Line) -> History:
    """The history after one line.

    Raises:
        ValueError: no such change can be made to it.
    """
    change = line["do"]
    if change == "anew":
        return History()
    if change == "saved":
        return history.mark_saved()
    if change in ("undo", "redo"):
        moved = history.undo() if change == "undo" else history.redo()
        if moved is history:
            raise ValueError(change)
        return moved
    if change != "put":
        raise ValueError(change)
    at, out, draft = int(line["at"]), int(line["out"]), history.draft
    if not 0 <= at <= at + out <= len(draft.steps):
        raise ValueError(at)
    put = tuple([Step(table, str(label)) for table, label in line["in"]])
    draft = replace(draft, steps=(*draft.steps[:at], *put, *draft.steps[at + out :]), head=line.get("head", draft.head))
    return history.put(draft, str(line["label"]))


# Lines as bytes


def encoded(lines: Iterable[Line], crc: int) -> tuple[bytes, int]:
    """Lines as they stand in the file after one with the checksum `crc`, and the checksum of the last."""
    found = b""
    for line in lines:
        inner = json.dumps(line, separators=(",", ":")).encode("ascii")
        crc = zlib.crc32(inner, crc)
        found += b"%s%08x%s%s%s\n" % (_BEFORE, crc, _BETWEEN, inner, _AFTER)
    return found, crc


def decoded(content: bytes) -> tuple[list[Line], bool]:
    """The lines that can be believed, and whether these are all."""
    lines: list[Line] = []
    crc = 0
    *whole, torn = content.split(b"\n")
    start = len(_BEFORE) + 8 + len(_BETWEEN)
    for raw in whole:
        inner = raw[start : -len(_AFTER)]
        crc = zlib.crc32(inner, crc)
        if raw != b"%s%08x%s%s%s" % (_BEFORE, crc, _BETWEEN, inner, _AFTER):
            return lines, False
        lines.append(json.loads(inner))
    return lines, not torn


def read(file: Path, content: bytes, written: float) -> Recovered | None:
    """What a journal tells; None where it is none, or tells of nothing that is not saved."""
    try:
        (header, *lines), whole = decoded(content)
        if header.get("format") != FORMAT:
            return None
        document = Document(str(header["path"]), dict(header["identity"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    history = History()
    for line in lines:
        try:
            history = follow(history, line)
        except (ValueError, KeyError, TypeError):
            whole = False
            break
    lost = history.is_dirty and not history.draft.is_empty
    return Recovered(file, document, history, written, whole) if lost else None


# Files


@dataclass(slots=True)
class _Open:
    """A journal that is being written."""

    file: Path
    fd: int
    crc: int = 0
    history: History = field(default_factory=History)
    is_synced: bool = True
    is_broken: bool = False

    def write(self, lines: Iterable[Line]) -> None:
        content, self.crc = encoded(lines, self.crc)
        left = memoryview(content)
        while left:
            left = left[os.write(self.fd, left) :]
        self.is_synced = False

    def sync(self) -> None:
        if not self.is_synced:
            os.fsync(self.fd)
            self.is_synced = True


class Journals:
    """The journals of one window, written by a thread of their own: a disk that is slow stalls nobody.

    `told` is called on that thread with what went wrong, once for each document. What is noted lies on the disk as soon
    as the thread has nothing else to do.
    """

    def __init__(self, folder: Path, told: Callable[[OSError], None] = lambda error: None) -> None:
        self.folder = folder
        self._told = told
        self._open: dict[object, _Open] = {}
        self._refused: set[object] = set()
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def note(self, key: object, document: Document, history: History) -> None:
        """Keep what the history of a document is now; `key` stands for the document. Returns at once."""
        self._tasks.put(lambda: self._note(key, document, history))

    def forget(self, key: object) -> None:
        """A document was closed: whoever did that knows of its edits."""
        self._tasks.put(lambda: self._forget(key))

    def find(self, found: Callable[[list[Recovered]], None]) -> None:
        """Look for edits that a window left behind which lives no more; `found` is called on the journals' thread."""
        self._tasks.put(lambda: found(self._find()))

    def discard(self, recovered: Recovered) -> None:
        """Take a journal away that was offered, after everything noted before is safe."""
        self._tasks.put(lambda: self._discard(recovered))

    def wait(self, seconds: float = 10.0) -> bool:
        """Wait until all that was asked for before is done and on the disk; False where that takes longer."""
        done = threading.Event()
        self._tasks.put(self._sync)
        self._tasks.put(done.set)
        return done.wait(seconds)

    def close(self) -> None:
        """End the thread; what is written stays."""
        self._tasks.put(None)
        self._thread.join(2.0)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
            if self._tasks.empty():
                self._sync()
        self._sync()
        for journal in self._open.values():
            with contextlib.suppress(OSError):
                os.close(journal.fd)

    def _note(self, key: object, document: Document, history: History) -> None:
        journal = self._open.get(key)
        if (journal is None and not history.is_dirty) or (journal is not None and journal.is_broken):
            return
        try:
            if journal is None:
                journal = self._open[key] = self._begin()
                head = {"format": FORMAT, "version": sdviewer.__version__, "id": secrets.token_hex(8)}
                journal.write([{**head, "pid": os.getpid(), **asdict(document)}])
            journal.write(lines_between(journal.history, history))
            journal.history = history
        except OSError as error:
            self._refuse(key, error)

    def _begin(self) -> _Open:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self.folder / f"{secrets.token_hex(8)}{SUFFIX}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        made = _Open(file, os.open(file, flags, 0o600))
        _lock(made.fd, wait=True)
        with contextlib.suppress(OSError):  # not everywhere can a folder be synced
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return made

    def _sync(self) -> None:
        for key, journal in self._open.items():
            try:
                journal.sync()
            except OSError as error:
                self._refuse(key, error)

    def _refuse(self, key: object, error: OSError) -> None:
        """Something was not written: what would come behind it could not be believed, so nothing does."""
        if (journal := self._open.get(key)) is not None:
            journal.is_broken, journal.is_synced = True, True
        if key not in self._refused:
            self._refused.add(key)
            self._told(error)

    def _forget(self, key: object) -> None:
        self._refused.discard(key)
        journal = self._open.pop(key, None)
        if journal is not None:
            with contextlib.suppress(OSError):
                os.close(journal.fd)  # before: Windows takes away no file that is open
            with contextlib.suppress(OSError):
                journal.file.unlink()

    def _find(self) -> list[Recovered]:
        found: list[Recovered] = []
        with contextlib.suppress(OSError):
            for file in sorted(self.folder.glob(f"*{SUFFIX}")):
                with contextlib.suppress(OSError):
                    if (left := _left_behind(file)) is not None:
                        found.append(left)
        return sorted(found, key=lambda left: left.written, reverse=True)

    def _discard(self, recovered: Recovered) -> None:
        self._sync()
        with contextlib.suppress(OSError):
            recovered.file.unlink()


def _left_behind(file: Path) -> Recovered | None:
    """What a journal tells whose process is gone, None for one in use."""
    with file.open("rb") as stream:
        if not _lock(stream.fileno(), wait=False):
            return None
        facts = os.fstat(stream.fileno())
        return read(file, stream.read(LARGEST), facts.st_mtime)


def _lock(fd: int, *, wait: bool) -> bool:
    """Lock a journal until it is closed, which the system does for a process that ends; False: another has it."""
    try:
        import fcntl
    except ImportError:  # Windows, where what is locked cannot be read: a byte far behind the end is
        return _lock_far_byte(fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return wait  # a file system without locks: better offered twice than not written
    return True


def _lock_far_byte(fd: int) -> bool:
    import msvcrt

    place = os.lseek(fd, 0, os.SEEK_CUR)
    try:
        os.lseek(fd, 2**31 - 2, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    except OSError:
        return False
    finally:
        os.lseek(fd, place, os.SEEK_SET)
    return True

"""The system calls of a save, counted; one of them can be made to fail, to do half of its work, or to be the last.

Python's own: every call that a save makes of the module `os`, `flock`, and `fallocate`, which `os` lacks and which the
save makes through ctypes. Needs no special rights, so the suite can do it; `dev.py gate` does the same to the kernel's
calls with strace.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from sdviewer.errors import Cancelled, SDViewerError
from sdviewer.formats import temporary

NAMES = (
    *("open", "close", "dup", "stat", "lstat", "fstat", "readlink", "scandir", "statvfs"),
    *("listxattr", "getxattr", "setxattr", "removexattr", "fchmod", "fchown"),
    *("read", "pread", "preadv", "write", "pwrite", "copy_file_range", "sendfile", "lseek", "fsync", "posix_fadvise"),
    *("link", "unlink", "rename", "replace"),
)
WRITING = ("write", "pwrite", "copy_file_range", "sendfile")
"""Calls that return how many bytes they moved into the file."""

CHANGING = (
    *(*WRITING, "_fallocate", "fchmod", "fchown", "setxattr", "removexattr"),
    *("link", "unlink", "rename", "replace"),
)
"""Calls after which something on the disk is not as it was; `open` is one of them when it makes a file."""

Call = Callable[..., Any]
Fault = Callable[[str, Call, tuple[Any, ...], dict[str, Any]], Any]


class Watch:
    """Notes each call and whether it changes the disk, and does what `usual` makes of it; `fault` in place of one."""

    def __init__(self, usual: Fault, at: int = 0, fault: Fault | None = None) -> None:
        """`at` is the number of the call that `fault` is for, from 1."""
        self.usual = usual
        self.at = at
        self.fault = fault
        self.seen: list[tuple[str, bool]] = []

    def __call__(self, name: str, real: Call, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        making = name == "open" and len(args) > 1 and bool(args[1] & (os.O_CREAT | os.O_TMPFILE ^ os.O_DIRECTORY))
        self.seen.append((name, making or name in CHANGING))
        act = self.fault if self.fault is not None and len(self.seen) == self.at else self.usual
        return act(name, real, args, named)


@contextmanager
def watched(watch: Watch) -> Iterator[Watch]:
    """Let the calls of this process pass through `watch` for as long as the block runs."""
    places = [(os, name) for name in NAMES] + [(fcntl, "flock"), (temporary, "_fallocate")]
    real = [getattr(module, name) for module, name in places]

    def through(name: str, call: Call) -> Call:
        return lambda *args, **named: watch(name, call, args, named)

    for (module, name), call in zip(places, real, strict=True):
        setattr(module, name, through(name, call))
    try:
        yield watch
    finally:
        for (module, name), call in zip(places, real, strict=True):
            setattr(module, name, call)


# What can happen to a call


def failing(code: int) -> Fault:
    """The call fails with this errno. A close that fails closes all the same, as Linux does it."""

    def fail(name: str, real: Call, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if name == "close":
            real(*args, **named)
        raise OSError(code, os.strerror(code))

    return fail


def killed(name: str, real: Call, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The process ends before the call, at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def short(name: str, real: Call, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The call moves only about a third of the bytes, and says so."""

    def third(count: int) -> int:
        return (count + 2) // 3

    if name == "pwrite":
        fd, data, at = args
        return real(fd, data[: third(len(data))], at)
    if name == "copy_file_range":
        source, out, count, start, at = args
        return real(source, out, third(count), start, at)
    if name == "sendfile":
        out, source, start, count = args
        return real(out, source, start, third(count))
    if name == "pread":
        fd, count, at = args
        return real(fd, third(count), at)
    if name == "preadv":
        fd, buffers, at = args
        return real(fd, [buffers[0][: third(len(buffers[0]))]], at)
    return real(*args, **named)


def lying(name: str, real: Call, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """A write that moves nothing and says that it moved everything."""
    if name == "pwrite":
        return len(args[1])
    if name == "copy_file_range":
        return args[2]
    return real(*args, **named)


def fast(name: str, real: Call, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Every call does its work, but for the sync: no power is cut here, and it takes the most time by far."""
    return None if name == "fsync" else real(*args, **named)


def without(*absent: str, otherwise: Fault) -> Fault:
    """A system that lacks these calls; "O_TMPFILE" is one of them."""

    def lack(name: str, real: Call, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        unnamed = name == "open" and args[1] & os.O_TMPFILE == os.O_TMPFILE
        if name in absent or (unnamed and "O_TMPFILE" in absent):
            raise OSError(errno.EOPNOTSUPP, "not here")
        return otherwise(name, real, args, named)

    return lack


# A child that may die


class End(NamedTuple):
    """How a child ended: "saved", "refused" (an error for a person), "cancelled", "failed" (a traceback), "killed"."""

    how: str
    said: str = ""


def ended(task: Callable[[], None]) -> End:
    """Run `task`; how it ended."""
    try:
        task()
    except SDViewerError as error:
        return End("refused", f"{error.exit_code} {error.code} {error}")
    except Cancelled:
        return End("cancelled")
    except Exception:
        return End("failed", traceback.format_exc()[-1500:])
    return End("saved")


def here(task: Callable[[], None]) -> End:
    """Run `task` in this process; it has to leave no open file behind, whatever happens."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  one call, no object a file
    end = ended(task)
    left = len(os.listdir("/proc/self/fd")) - before  # noqa: PTH208
    return End("failed", f"{end.how}, and {left} files stay open") if left else end


def in_child(task: Callable[[], None]) -> End:
    """Run `task` in a fork of this process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        end = End("failed", "ended without a word")
        try:
            end = here(task)
        finally:
            os.write(writer, f"{end.how}\n{end.said}".encode(errors="replace")[:60_000])
            sys.stderr.flush()
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8", errors="replace") as stream:  # noqa: PTH123  a descriptor
        how, _, said = stream.read().partition("\n")
    os.waitpid(child, 0)
    return End(how, said) if how else End("killed")

"""What a worker that reads files gives up before it touches one: writing, starting programs, the network.

No code from a file runs, so this is for the fault that nobody knows of. Every step is tried by itself; where the system
has it not, or forbids it, the worker works all the same, only less fenced in. Costs 0.5 ms, and the import of `ctypes`
where nothing has needed it yet (about 1.5 ms).

Facts: Linux `landlock(7)`, `prctl(2)`, `<linux/landlock.h>` (ABI 1 to 6); the system calls have the same numbers on all
architectures.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_SET_NO_NEW_PRIVS = 38

_EXECUTE, _WRITE_FILE = 1 << 0, 1 << 1
_MAKE_AND_REMOVE = sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_BIND_AND_CONNECT_TCP = 3
_SCOPED = 3  # abstract sockets, and signals to processes outside


def harden(writable: Iterable[str] = (), *, may_write: bool = False, programs: Iterable[str] = ()) -> list[str]:
    """Fence this process in for good; what was achieved, in words.

    Reading stays allowed everywhere: Python imports on demand, and which files a checkpoint has is known later.

    Args:
        writable: folders below which files may still be made and written.
        may_write: whether any file may be written at all, in `writable` or not where the system cannot tell.
        programs: what may still be started; it gets the same fence.
    """
    done = [*_limits(may_write)]
    if sys.platform == "linux":
        # No ctypes, or no such call in this C library: what is done is done.
        with contextlib.suppress(OSError, ImportError, AttributeError):
            for what in _linux(writable, programs):
                done.append(what)
    return done


def _limits(may_write: bool) -> Iterable[str]:
    try:
        import resource
    except ImportError:  # Windows
        return
    wanted = [("no core dump", resource.RLIMIT_CORE)]
    if not may_write:
        wanted.append(("no byte written to a file", resource.RLIMIT_FSIZE))
    for what, limit in wanted:
        try:
            resource.setrlimit(limit, (0, 0))
        except (OSError, ValueError):
            continue
        yield what


def _linux(writable: Iterable[str], programs: Iterable[str]) -> Iterable[str]:
    import ctypes

    libc = ctypes.CDLL(None)
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return
    yield "no new privileges"
    syscall = libc.syscall
    abi = syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)
    if abi < 1:
        return
    files = _EXECUTE | _WRITE_FILE | _MAKE_AND_REMOVE
    files |= (_REFER if abi >= 2 else 0) | (_TRUNCATE if abi >= 3 else 0)
    attributes = struct.pack("<Q", files)
    attributes += struct.pack("<Q", _BIND_AND_CONNECT_TCP) if abi >= 4 else b""
    attributes += struct.pack("<Q", _SCOPED) if abi >= 6 else b""
    ruleset = syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return
    try:
        for folder in writable:
            _allow(syscall, ruleset, folder, files & ~_EXECUTE)
        _allow(syscall, ruleset, os.devnull, files & (_WRITE_FILE | _TRUNCATE))
        for program in programs:
            for path in (program, *_loaders()):
                _allow(syscall, ruleset, path, _EXECUTE)
        if syscall(_RESTRICT_SELF, ruleset, 0) == 0:
            yield "no file written or other program started" + (" and no connection made" if abi >= 4 else "")
    finally:
        os.close(ruleset)


def _loaders() -> set[str]:
    """The program that the kernel starts first to start another: it is mapped into this process too."""
    with open("/proc/self/maps") as file:  # noqa: PTH123
        paths = {line.split(maxsplit=5)[-1].strip() for line in file if "/ld-" in line or "/ld.so" in line}
    return {path for path in paths if path.startswith("/")}


def _allow(syscall: object, ruleset: int, path: str, rights: int) -> None:
    """Grant rights on a file, or on all below a folder; what is not there needs none."""
    assert callable(syscall)
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("<Qi", rights, fd), 0)
    finally:
        os.close(fd)

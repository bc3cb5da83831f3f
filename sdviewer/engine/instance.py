"""One window a display: a second start hands its files to the one that runs.

A start first looks for a server at a Unix socket named after the display; if there is none it takes a lock, looks
again, and keeps the lock until it serves. Without the lock, starts at the same moment each take the address of the
others. The lock belongs to an open file, so it dies with its process; so does the server, whose socket then refuses and
is replaced. Standard library only, no Qt: handing over takes as long as starting Python.

One message a connection: a JSON line to the server, `ok` back. Windows has no such sockets in Python: there every start
is a window of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 10.0
"""Seconds that a start waits for the answer of a window, or for another start to become one."""

_MESSAGE_LIMIT = 16 * 1024 * 1024
_ADDRESS_LIMIT = 100
"""Bytes of a socket's path that every system takes (Linux 107, macOS 103)."""

_OK = b"ok\n"
_AVAILABLE = hasattr(socket, "AF_UNIX")


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """What a second start asks of the running window.

    `paths` are absolute; none means "show yourself", with `compare` they are two to be compared, with `series` the
    checkpoints of one run. `activation_token`
    (Wayland) and `startup_id` (X11) let the window come to the front without being taken for one that steals the focus;
    "" where the desktop gave none.
    """

    paths: tuple[str, ...]
    activation_token: str = ""
    startup_id: str = ""
    compare: bool = False
    series: bool = False


class Server:
    """Answers other starts until `close`; `active` is False where another window serves already."""

    def __init__(self, listener: socket.socket | None, address: Path, on_open: Callable[[OpenRequest], None]) -> None:
        self._listener = listener
        self._address = address
        self._on_open = on_open
        self._thread: threading.Thread | None = None
        if listener is not None:
            self._inode = address.stat().st_ino
            self._thread = threading.Thread(target=self._serve, name="sdviewer instance", daemon=True)
            self._thread.start()

    @property
    def active(self) -> bool:
        """Whether files of other starts arrive here."""
        return self._listener is not None

    def close(self) -> None:
        """Stop serving. A start that comes now becomes a window of its own."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        with contextlib.suppress(OSError):
            if self._address.stat().st_ino == self._inode:  # nobody has replaced it
                self._address.unlink()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), where close() alone does not
        listener.close()
        if self._thread is not None:
            self._thread.join()

    def _serve(self) -> None:
        listener = self._listener
        while listener is not None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            # A start that was ended in the middle is its own trouble, not this window's; RuntimeError is how Qt says
            # that the window has just been deleted. Either way there is no `ok`, and the start opens its own window.
            with connection, contextlib.suppress(OSError, ValueError, RuntimeError):
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        request = _request_from(json.loads(_read_line(connection)))
        self._on_open(request)
        connection.sendall(_OK)


def hand_over(paths: Sequence[str], *, compare: bool = False, series: bool = False) -> bool:
    """Give `paths` to the window that runs on this display; False if this process is to be that window.

    `compare`: they are two files to be compared; `series`: they are checkpoints of one run.

    After False this process holds the start lock, and other starts wait for its `serve` (or its end).
    """
    if not _AVAILABLE:
        return False
    address = _address()
    request = OpenRequest(
        tuple(os.path.abspath(path) for path in paths),  # noqa: PTH100 - resolves "..", which Path.absolute() keeps
        os.environ.get("XDG_ACTIVATION_TOKEN", ""),
        os.environ.get("DESKTOP_STARTUP_ID", ""),
        compare,
        series,
    )
    deadline = time.monotonic() + PATIENCE
    while True:
        if _send(address, request):
            return True
        if _lock.acquire(address):
            # Between the look and the lock another start may have become the window and let go of the lock.
            if _send(address, request):
                _lock.release()
                return True
            return False
        if time.monotonic() > deadline:
            return False  # the start before this one hangs: a second window is better than none
        time.sleep(0.02)


def serve(on_open: Callable[[OpenRequest], None]) -> Server:
    """Take the files of other starts from now on; let go of the start lock.

    `on_open` is called on the server's thread and must return at once (post an event, emit a signal). Where another
    window serves this display already (`--new-window`), the returned server is not active.
    """
    if not _AVAILABLE:
        return Server(None, Path(), on_open)
    address = _address()
    try:
        if not _lock.acquire(address) or _alive(address):
            return Server(None, address, on_open)
        return Server(_listen(address), address, on_open)
    finally:
        _lock.release()


class _StartLock:
    """At most one process of a display is between "nobody serves" and serving."""

    def __init__(self) -> None:
        self._file: int | None = None

    def acquire(self, address: Path) -> bool:
        """Take the lock without waiting; True if it is held now."""
        import fcntl  # not on Windows

        if self._file is not None:
            return True
        handle = os.open(address.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return False
        self._file = handle
        return True

    def release(self) -> None:
        """Let go of it, if it is held."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


_lock = _StartLock()


def _address() -> Path:
    """Where the server of this display listens; the display in the name keeps a test's from meeting the user's."""
    display = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY") or ""
    folder = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    name = f"sdviewer-{hashlib.sha256(display.encode()).hexdigest()[:16]}.sock"
    if (
        folder.is_absolute()
        and folder.is_dir()
        and len(os.fsencode(folder / name)) <= _ADDRESS_LIMIT - len(".12345678")
    ):
        return folder / name
    # No such folder on macOS and in bare sessions, or its name is too long for a socket.
    display = f"{folder} {display}"
    name = f"sdviewer-{hashlib.sha256(display.encode()).hexdigest()[:16]}.sock"
    return _private_folder() / name


def _private_folder() -> Path:
    """A folder in the temporary one that only this user can enter."""
    folder = Path(tempfile.gettempdir()) / f"sdviewer-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        # Somebody else made it first, perhaps to read what is handed over.
        return Path(tempfile.mkdtemp(prefix="sdviewer-"))
    return folder


def _listen(address: Path) -> socket.socket:
    """A listening socket that appears at `address` ready, with mode 0600, in place of one whose process has died."""
    new = address.with_name(f"{address.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(new))
        new.chmod(0o600)
        listener.listen(64)
        new.replace(address)
    except BaseException:
        listener.close()
        new.unlink(missing_ok=True)
        raise
    return listener


def _alive(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PATIENCE)
        try:
            probe.connect(str(address))
        except OSError:
            return False
        return True


def _send(address: Path, request: OpenRequest) -> bool:
    """Give `request` to the server at `address`; False if there is none or it is just closing."""
    fields = {
        "paths": list(request.paths),
        "activation_token": request.activation_token,
        "startup_id": request.startup_id,
        "compare": request.compare,
        "series": request.series,
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.connect(str(address))
            # ASCII: a file name that is no UTF-8 travels as surrogates in \u escapes.
            connection.sendall(json.dumps(fields).encode("ascii") + b"\n")
        except OSError:
            return False
        try:
            return connection.recv(len(_OK)) == _OK
        except TimeoutError:
            return True  # it has the message and is slow: opening the files here too would be worse
        except OSError:
            return False


def _read_line(connection: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        piece = connection.recv(65536)
        if not piece or len(received) > _MESSAGE_LIMIT:
            raise ValueError("not a whole message")
        received += piece
    return bytes(received)


def _request_from(fields: Any) -> OpenRequest:
    """The request in a message.

    Raises:
        ValueError: it is not one of ours.
    """
    if not isinstance(fields, dict):
        raise ValueError("not a request")
    paths, token, startup = fields.get("paths"), fields.get("activation_token", ""), fields.get("startup_id", "")
    if not isinstance(paths, list) or not all(isinstance(path, str) and os.path.isabs(path) for path in paths):  # noqa: PTH117
        raise ValueError("not a list of absolute paths")
    if not isinstance(token, str) or not isinstance(startup, str):
        raise ValueError("not a request")
    compare = fields.get("compare") is True and len(paths) == 2
    series = fields.get("series") is True and len(paths) > 0
    return OpenRequest(tuple(paths), token, startup, compare, series)

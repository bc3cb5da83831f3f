"""The tripwire: a process in which everything sdviewer can do with a file is done under an audit hook.

    python -P -m tests.hostility.tripwire look FOLDER      do everything with FOLDER/files/*, print what was seen
    python -P -m tests.hostility.tripwire unpickle FOLDER  unpickle FOLDER/pickles/*, print which calls were stopped

Python tells an audit hook of every import, exec, compile, open, process, socket, library and unpickled name; a hook
cannot be taken away again, so the process is a child. `look` first works through FOLDER/honest, so that whatever our
own code imports or compiles is there; from then on any such event comes from the file.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import io
import json
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

QUIET = (
    "array.__new__",
    "builtins.id",
    "object.__getattr__",
    "object.__setattr__",
    "sys._getframe",
    "os.rename",
    "os.remove",
    "os.link",
    "os.chmod",
    "os.chown",
    "os.listxattr",
    "os.getxattr",
    "os.setxattr",
    "os.truncate",
    "fcntl.flock",
)
"""Events of saving a file; where they point is not looked at: what they write is under `open`."""


class Tripped(BaseException):
    """What the hook raises in `unpickle`; no `except Exception` swallows it."""


class Tripwire:
    """Audit hook: notes the events that no file may cause."""

    def __init__(self, writable: Path, *, stop: bool = False) -> None:
        self.armed = False
        self.caught: list[str] = []
        self._writable = str(writable) + os.sep
        self._stop = stop
        self._opens = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.armed or event in QUIET:
            return
        if event == "open" and not self._stop and self._may_open(*args):
            return
        self.caught.append(f"{event} {str(args)[:200]}")
        if self._stop:
            raise Tripped(event)

    def _may_open(self, path: Any, mode: Any, flags: int) -> bool:
        name = os.fsdecode(path) if isinstance(path, (str, bytes)) else ""
        if not flags & self._opens:
            return not name.endswith((".py", ".pyc", ".so"))
        return f"{name}{os.sep}".startswith(self._writable) or name.startswith(f"/proc/{os.getpid()}/fd/")

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        self.armed = True
        try:
            yield
        finally:
            self.armed = False


def look(folder: Path) -> dict[str, Any]:
    """What happened with each file: step -> how it ended, and the events of all of them."""
    from sdviewer.errors import SDViewerError

    for codec in ("raw_unicode_escape", "unicode_escape"):
        codecs.lookup(codec)  # imported by Python itself when text of a pickle is decoded
    tripwire = Tripwire(folder / "out")
    steps = _steps(folder / "out")
    for path in sorted((folder / "honest").iterdir()):
        for step in steps.values():
            with contextlib.suppress(SDViewerError):
                step(path)
    sys.addaudithook(tripwire)
    found: dict[str, Any] = {}
    for path in sorted((folder / "files").iterdir()):
        tripwire.caught = []
        told: dict[str, str] = {}
        for title, step in steps.items():
            try:
                with tripwire.watching():
                    told[title] = step(path)
            except SDViewerError as error:
                told[title] = f"refused: {error.code}"
        found[path.name] = {"steps": told, "caught": tripwire.caught}
    return found


def _steps(out: Path) -> dict[str, Callable[[Path], str]]:
    """Everything that one can do with a file, by the functions that the window and the commands call."""
    import argparse
    from dataclasses import asdict

    from sdviewer.cli import info, scan
    from sdviewer.engine.document import Document
    from sdviewer.engine.numbers import Numbers
    from sdviewer.formats import open_checkpoint, save
    from sdviewer.formats.scanning import scan_file
    from sdviewer.repair.planning import make_plan
    from sdviewer.repair.recipe import Recipe, parse_recipe

    quiet = argparse.Namespace(quiet=True, json=True, state_dict=None)
    rename = 'format = "sdviewer-recipe/1"\n[[step]]\nop = "rename"\nrules = [["w", "renamed"]]\n'

    def no_progress(done: int, total: int) -> None:
        pass

    def opened(path: Path) -> str:
        checkpoint = open_checkpoint(path)
        asdict(checkpoint.identity)
        return checkpoint.container

    def told(path: Path) -> str:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            for as_json in (False, True):
                quiet.json = as_json
                info.run(argparse.Namespace(**vars(quiet), file=str(path)))
        return f"{len(printed.getvalue()) > 0}"

    def scanned(path: Path) -> str:
        found = scan_file(path)
        scan.as_text(str(path), found)
        json.dumps(found.to_json())
        return found.verdict

    def shown(path: Path) -> str:
        document, numbers = Document(), Numbers()
        document.requests["open"]({"path": str(path)}, no_progress)
        document.requests["rows"]({"all": "expand"}, no_progress)
        measured = 0
        for row in range(len(document._tree)):
            facts = document.requests["facts"]({"row": row}, no_progress).body
            if facts["source"]:
                for name, params in {
                    "overview": {},
                    "slice": {"rows": 8, "columns": 8},
                    "line": {"points": 8},
                    "digest": {},
                }.items():
                    numbers.requests[name]({"source": facts["source"], **params}, no_progress)
                measured += 1
        return f"{measured} measured"

    def saved(path: Path) -> str:
        checkpoint = open_checkpoint(path)
        target = out / "saved.pt"
        for recipe in (parse_recipe(rename), Recipe()):
            plan = make_plan(recipe, checkpoint)
            save(checkpoint, plan, str(target), overwrite=True, ask_torch=False, container=checkpoint.container)
            verdict = scanned(target)
        return verdict

    return {"open": opened, "info": told, "scan": scanned, "show and measure": shown, "save": saved}


class _Unpickler(pickle.Unpickler):
    """Python's own, which runs what it reads; persistent ids become themselves."""

    def persistent_load(self, pid: Any) -> Any:
        return pid


def unpickle(folder: Path) -> dict[str, Any]:
    """What each pickle would have done: the first event, which is stopped before it happens."""
    tripwire = Tripwire(folder / "out", stop=True)
    sys.addaudithook(tripwire)
    found = {}
    for path in sorted((folder / "pickles").iterdir()):
        tripwire.caught = []
        stream = io.BytesIO(path.read_bytes())
        with contextlib.suppress(Exception, Tripped), tripwire.watching():
            _Unpickler(stream).load()
        found[path.name] = {"caught": tripwire.caught[:1]}
    for event, act in ACTS.items():
        tripwire.caught = []
        with contextlib.suppress(Exception, Tripped), tripwire.watching():
            act()
        found[event] = {"caught": tripwire.caught[:1]}
    return found


_CODE = compile("1", "made before", "exec")

ACTS: dict[str, Callable[[], Any]] = {
    "os.system": lambda: os.system("exit 1"),
    "os.posix_spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "os.exec": lambda: os.execv("/bin/true", ["true"]),
    "os.fork": lambda: os.fork(),
    "subprocess.Popen": lambda: subprocess.Popen(["/bin/true"]),
    "import": lambda: __import__("antigravity"),
    "exec": lambda: exec(_CODE),
    "compile": lambda: compile("1", "x", "eval"),
    "socket.__new__": lambda: socket.socket(),
    "ctypes.dlopen": lambda: ctypes.CDLL("libc.so.6"),
    "marshal.loads": lambda: __import__("marshal").loads(b"N"),
    "open": lambda: open("/dev/null", "w"),  # noqa: PTH123, SIM115
}
"""What a gadget would do in the end, by the event that must trip."""


if __name__ == "__main__":
    print(json.dumps({"look": look, "unpickle": unpickle}[sys.argv[1]](Path(sys.argv[2]))))  # noqa: T201

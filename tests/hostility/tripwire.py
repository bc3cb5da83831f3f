"""The tripwire: a process in which everything sdviewer can do with a file is done under an audit hook.

    python -P -m tests.hostility.tripwire look FOLDER      do everything with FOLDER/files/*, print what was seen
    python -P -m tests.hostility.tripwire unpickle FOLDER  unpickle FOLDER/pickles/*, print which calls were stopped
    python -P -m tests.hostility.tripwire naive FOLDER     load FOLDER/files/* as one does who trusts them, likewise
    python -P -m tests.hostility.tripwire walk FOLDER      do what the child process does that reads HDF5 files

Python tells an audit hook of every import, exec, compile, open, process, socket, library and unpickled name; a hook
cannot be taken away again, so the process is a child. `look` first works through FOLDER/honest, so that whatever our
own code imports or compiles is there; from then on any such event comes from the file.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import importlib
import io
import json
import os
import pickle
import pkgutil
import signal
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


RUNS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "subprocess.",
    "socket.",
    "pickle.",
    "ctypes.dl",
)
"""Events of whatever a file could make run in the end; without imports, which our own code does when it first needs."""

WALK = [sys.executable, "-P", "-m", "sdviewer.formats.hdf5_walk"]
"""The one program that may be started: our own child, which reads HDF5 files; `walk` looks at what happens in that."""


class Tripped(BaseException):
    """What the hook raises in `unpickle`; no `except Exception` swallows it."""


class Tripwire:
    """Audit hook: notes the events that no file may cause."""

    def __init__(
        self, writable: Path, readable: Path | None = None, *, stop: bool = False, only: str | tuple[str, ...] = ""
    ) -> None:
        self.armed = False
        self.caught: list[str] = []
        self.walks = 0
        self._only = only
        self._writable = str(writable) + os.sep
        self._readable = str(readable) + os.sep
        self._stop = stop
        self._opens = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.armed or event in QUIET or not event.startswith(self._only):
            return
        if event == "subprocess.Popen" and not self._stop and args[1] == WALK:
            self.walks += 1
            return
        if event == "os.kill" and self.walks and args[1] == signal.SIGKILL:
            return  # the end of that child
        if event in ("os.listdir", "os.scandir"):
            seen = os.path.realpath(args[0]) + os.sep
            if seen.startswith((self._readable, self._writable)):
                return
        if event in ("ctypes.dlopen", "ctypes.dlsym") and not self._stop and _of_saving(event, args):
            return
        if event == "open" and not self._stop and self._may_open(*args):
            return
        self.caught.append(f"{event} {str(args)[:200]}")
        if self._stop:
            raise Tripped(event)

    def _may_open(self, path: Any, mode: Any, flags: int) -> bool:
        if isinstance(path, int):
            return True  # a descriptor, which was opened before
        name = os.fsdecode(path) if isinstance(path, (str, bytes)) else ""
        if not flags & self._opens:
            return not name.endswith((".py", ".pyc", ".so"))
        if name == os.devnull:
            return True  # where what the HDF5 library says goes
        return f"{name}{os.sep}".startswith(self._writable) or name.startswith(f"/proc/{os.getpid()}/fd/")

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        self.armed = True
        try:
            yield
        finally:
            self.armed = False


def _of_saving(event: str, args: tuple[Any, ...]) -> bool:
    """Whether it is a save that asks the C library that runs already for what Python has no call for."""
    return args[0] is None if event == "ctypes.dlopen" else args[1] in ("fallocate64", "renameat2")


def look(folder: Path) -> dict[str, Any]:
    """What happened with each file: step -> how it ended, and the events of all of them."""
    import sdviewer.formats
    from sdviewer.errors import SDViewerError

    for module in pkgutil.iter_modules(sdviewer.formats.__path__, "sdviewer.formats."):
        importlib.import_module(module.name)  # a format is imported when a file begins like it
    for codec in ("raw_unicode_escape", "unicode_escape"):
        codecs.lookup(codec)  # imported by Python itself when text of a pickle is decoded
    tripwire = Tripwire(folder / "out", folder / "files")
    steps = _steps(folder / "out")
    for _, path in things(folder / "honest"):
        for step in steps.values():
            with contextlib.suppress(SDViewerError):
                step(path)
    sys.addaudithook(tripwire)
    found: dict[str, Any] = {}
    for name, path in things(folder / "files"):
        tripwire.caught, tripwire.walks = [], 0
        told: dict[str, str] = {}
        for title, step in steps.items():
            try:
                with tripwire.watching():
                    told[title] = step(path)
            except SDViewerError as error:
                told[title] = f"refused: {error.code}"
        found[name] = {"steps": told, "caught": tripwire.caught, "walks": tripwire.walks}
    return found


def things(folder: Path) -> Iterator[tuple[str, Path]]:
    """The name of each file or folder in `folder`, and the path that is opened."""
    for path in sorted(folder.iterdir()):
        if path.suffix != ".json":
            yield path.name, path / _said(path).get("opened", "")


def _said(path: Path) -> dict[str, str]:
    """What stands beside a thing."""
    beside = path.with_name(f"{path.name}.json")
    said: dict[str, str] = json.loads(beside.read_text()) if beside.exists() else {}
    return said


def _no_progress(done: int, total: int) -> None:
    pass


def _steps(out: Path) -> dict[str, Callable[[Path], str]]:
    """Everything that one can do with a file, by the functions that the window and the commands call."""
    import argparse
    from dataclasses import asdict

    from sdviewer.cli import diff, info, scan, stats
    from sdviewer.engine.document import Document
    from sdviewer.engine.numbers import Numbers
    from sdviewer.errors import SDViewerError
    from sdviewer.formats import open_checkpoint, save
    from sdviewer.formats.scanning import scan_file
    from sdviewer.repair.planning import make_plan
    from sdviewer.repair.recipe import Recipe, parse_recipe

    quiet = argparse.Namespace(quiet=True, json=True, state_dict=None)
    rename = 'format = "sdviewer-recipe/1"\n[[step]]\nop = "rename"\nrules = [["w", "renamed"]]\n'

    def opened(path: Path) -> str:
        checkpoint = open_checkpoint(path)
        asdict(checkpoint.identity)
        return checkpoint.container

    def printed(command: Callable[[argparse.Namespace], object], path: Path, **more: Any) -> str:
        with contextlib.redirect_stdout(io.StringIO()) as lines:
            for as_json in (False, True):
                quiet.json = as_json
                command(argparse.Namespace(**vars(quiet), file=str(path), **more))
        return f"{len(lines.getvalue()) > 0}"

    def compared(path: Path) -> str:
        """With itself: by contents too, as a page and as a document."""
        both = {"a": str(path), "b": str(path), "state_dict_b": None, "map": None, "match": "auto"}
        options = {"atol": 0.1, "rtol": None, "keys_only": False, "exit_code": False, "form": "html"}
        return printed(diff.run, path, **both, **options)

    def scanned(path: Path) -> str:
        found = scan_file(path)
        scan.as_text(str(path), found)
        json.dumps(found.to_json())
        return found.verdict

    def shown(path: Path) -> str:
        document, numbers = Document(), Numbers()
        document.requests["open"]({"path": str(path)}, _no_progress)
        document.requests["rows"]({"all": "expand"}, _no_progress)
        measured = 0
        for row in range(len(document._tree)):
            facts = document.requests["facts"]({"row": row}, _no_progress).body
            if facts["source"]:
                for name, params in {
                    "overview": {},
                    "slice": {"rows": 8, "columns": 8},
                    "line": {"points": 8},
                    "digest": {},
                    "glance": {},
                    "extreme": {"which": "max"},
                    "rows": {"points": 8},
                    "quantiles": {},
                    "spectrum": {},
                    "kernels": {},
                }.items():
                    with contextlib.suppress(SDViewerError):  # a line is not for a matrix, a lost part has no numbers
                        numbers.requests[name]({"source": facts["source"], **params}, _no_progress)
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

    return {
        "open": opened,
        "info": lambda path: printed(info.run, path),
        "stats": lambda path: printed(stats.run, path, key=None, hash=True),
        "scan": scanned,
        "compare": compared,
        "show and measure": shown,
        "raw": _raw,
        "look over": lambda path: _looked_over(path, out),
        "side by side": _side_by_side,
        "save": saved,
    }


def _raw(path: Path) -> str:
    """All that the views of the whole file ask of a worker."""
    from sdviewer.engine.document import Document
    from sdviewer.errors import SDViewerError

    document = Document()
    document.requests["open"]({"path": str(path)}, _no_progress)

    def ask(name: str, **params: Any) -> Any:
        return document.requests[name](params, _no_progress).body

    rows = [0]
    for row in rows:
        page = ask("structure", item=row, start=0, limit=40)
        rows += [child[0] for child in page["rows"] if child[6]][: 300 - len(rows)]
    page = {"start": 0, "limit": 40}
    for record in ask("records", **page)["rows"]:
        with contextlib.suppress(SDViewerError):
            ask("record_text", record=record[0])
    for name in ("storages", "problems"):
        ask(name, **page)
    for name in ("metadata", "clean"):
        ask(name, limit=40)
    return f"{len(rows) - 1} rows"


def _side_by_side(path: Path) -> str:
    """All that a window asks about a file beside itself, paired by contents too."""
    from sdviewer.engine.comparison import Comparison
    from sdviewer.errors import SDViewerError

    comparison = Comparison()

    def ask(name: str, **params: Any) -> Any:
        return comparison.requests[name](params, _no_progress).body

    opened = ask("open", a=str(path), b=str(path), match="auto")
    ask("rows", all="expand", filter="w", sort="name")
    for row in range(min(opened["rows_total"], 300)):
        for name in ("facts", "take", "partners"):
            with contextlib.suppress(SDViewerError):  # nothing differs that could be taken
                ask(name, row=row, text="", limit=3)
    for name, params in {"where": {}, "map": {"height": 100}, "step": {"row": -1, "forwards": True}}.items():
        ask(name, **params)
    for form in ("lines", "html"):
        ask("report", form=form)
    return f"{opened['pairs']} pairs"


def _looked_over(path: Path, out: Path) -> str:
    """All that a window asks about a checkpoint as a whole: overview, statistics of all tensors, an export of them."""
    from sdviewer.engine.document import Document
    from sdviewer.engine.survey import Survey

    document, survey = Document(), Survey()
    info = document.requests["open"]({"path": str(path)}, _no_progress).body["info"]
    begun = survey.requests["begin"]({"path": str(path), "identity": info["identity"]}, _no_progress)
    measured = survey.requests["measure"]({"first": [], "seconds": 60.0, "most": 1 << 30}, _no_progress)
    for part in (begun, measured):
        buffers = {name: bytes(buffer) for name, buffer in part.buffers.items()}
        document.requests["statistics"]({"columns": ["std"], "identity": info["identity"], **buffers}, _no_progress)
    for name in ("overview", "overview_state"):
        document.requests[name]({}, _no_progress)
    depth = {"series": 0, "measure": "std", "kind": "weights"}
    document.requests["overview_depth"](depth, _no_progress)
    chosen = {"rows": list(range(len(document.tree))), "kind": "npz", "raw": False}
    would = document.requests["would_export"](chosen, _no_progress).body
    if would["tensors"] and not would["error"]:
        order = {"path": str(path), "recipe": "", "identity": info["identity"], "out": str(out / "out.npz")}
        Document().requests["export"]({**order, **chosen, "overwrite": True, "split_names": True}, _no_progress)
    return f"{measured.body['known']} measured, {would['tensors']} to take out"


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


def naive(folder: Path) -> dict[str, Any]:
    """What ends with `os.system` when each thing is loaded by the reader that its `.json` names."""
    import numpy as np
    import torch
    from torch.distributed.checkpoint import FileSystemReader

    def package(path: Path) -> object:
        return torch.package.PackageImporter(path).load_pickle("model", "model.pkl")

    def shards(path: Path) -> None:
        for name in sorted(set(json.loads(path.read_text())["weight_map"].values())):
            torch.load(path.with_name(name), weights_only=False)

    readers: dict[str, Callable[[Path], object]] = {
        "dcp": lambda path: FileSystemReader(path).read_metadata(),
        "numpy": lambda path: np.asarray(dict(enumerate(_arrays(np.load(path, allow_pickle=True))))),
        "package": package,
        "shard": shards,
    }
    tripwire = Tripwire(folder / "out", stop=True, only="os.system")
    sys.addaudithook(tripwire)
    found = {}
    for name, path in things(folder / "files"):
        reader = _said(folder / "files" / name)["naive"]
        tripwire.caught = []
        with contextlib.suppress(Exception, Tripped), tripwire.watching():
            readers[reader](path)
        found[name] = {"caught": tripwire.caught[:1]}
    return found


def _arrays(loaded: Any) -> Iterator[Any]:
    """What stands in an `.npz`, or the array of an `.npy`."""
    if hasattr(loaded, "files"):
        for name in loaded.files:
            yield loaded[name]
    else:
        yield loaded


def walk(folder: Path) -> dict[str, Any]:
    """What happens in the process that reads an HDF5 file, while it does; and how it ended."""
    import h5py

    from sdviewer.formats.hdf5_walk import _Bytes, _Walk

    tripwire = Tripwire(folder / "out")

    def walked(path: Path) -> str:
        with path.open("rb") as file, contextlib.redirect_stdout(io.StringIO()) as printed:
            size = path.stat().st_size
            _Walk(h5py, _Bytes(file.fileno(), 0, size), size).run()
        return printed.getvalue()

    for _, path in things(folder / "honest"):
        walked(path)
    sys.addaudithook(tripwire)
    found = {}
    for name, path in things(folder / "files"):
        tripwire.caught = []
        with tripwire.watching():
            try:
                told = walked(path)
            except Exception as error:  # the library's own, which the child tells
                told = type(error).__name__
        found[name] = {"caught": tripwire.caught, "told": told}
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
    modes = {"look": look, "unpickle": unpickle, "naive": naive, "walk": walk}
    print(json.dumps(modes[sys.argv[1]](Path(sys.argv[2]))))  # noqa: T201

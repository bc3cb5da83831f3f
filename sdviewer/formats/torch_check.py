"""What `torch.load(weights_only=True)` says of a file that sdviewer itself has just written.

The only place in sdviewer that calls `torch.load`, and only in a child process: its own, run as
`python -P -m sdviewer.formats.torch_check PATH map|read`, which prints one line of JSON, and the one in which a model
is built to load what was written (`engine/model_child`). No file of a user comes here.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from sdviewer.core.text import size, visible

_SECONDS_BETWEEN_LOOKS = 0.1


class Verdict(NamedTuple):
    """`loads` is None where it was not tried; `reason` says why not, or what torch said when it refused."""

    loads: bool | None
    reason: str = ""


class TorchCheck:
    """One child that loads one file; started early, asked late, so that it works while the bytes are compared."""

    def __init__(self, path: str, fd: int, *, mapped: bool, nbytes: int) -> None:
        """Start it. `fd` is kept open in the child, since `path` may be its entry in /proc."""
        self._child: subprocess.Popen[bytes] | None = None
        self._not_tried = _why_not(mapped, nbytes)
        if self._not_tried:
            return
        command = [sys.executable, "-P", "-m", __spec__.name, path, "map" if mapped else "read"]
        try:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # closes with this process, however that ends, and so ends the child
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment_of_torch(),
                pass_fds=() if sys.platform == "win32" else (fd,),
            )
        except OSError as error:
            self._not_tried = f"no process could be started for it ({error.strerror})"

    def finished(self) -> bool:
        """Wait a moment; whether the answer is there."""
        if self._child is None:
            return True
        try:
            self._child.wait(_SECONDS_BETWEEN_LOOKS)
        except subprocess.TimeoutExpired:
            return False
        return True

    def verdict(self) -> Verdict:
        """What it said; waits for the end, and can be asked once."""
        if self._child is None:
            return Verdict(None, self._not_tried)
        child, self._child = self._child, None
        assert child.stdin is not None
        assert child.stdout is not None
        with child.stdin, child.stdout as stream:
            output = stream.read()
            status = child.wait()
        if status < 0:
            return Verdict(False, f"torch ended with signal {-status}")
        try:
            answer = json.loads(output)
            return Verdict(answer["loads"], visible(answer["reason"], 400))
        except (ValueError, KeyError, TypeError):
            return Verdict(None, f"the check ended with status {status} and no answer")

    def stop(self) -> None:
        """End the child, if it still runs."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()


def environment_of_torch() -> dict[str, str]:
    """The environment of a child that imports torch and a module of sdviewer."""
    room = str(Path(__file__).parents[2])
    inherited = os.environ.get("PYTHONPATH")
    return os.environ | {
        # Backends that announce themselves to torch are code that nobody asked for here.
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
        # -P keeps the current folder out; sdviewer itself must still be found when it runs from a source tree.
        # An empty entry would be the current folder again.
        "PYTHONPATH": os.pathsep.join([room, *filter(None, (inherited or "").split(os.pathsep))]),
    }


def _why_not(mapped: bool, nbytes: int) -> str:
    if getattr(sys, "frozen", False):
        return "this build carries no Python that could run torch"
    if find_spec("torch") is None:
        return "torch is not installed"
    free = _free_memory()
    if not mapped and free is not None and nbytes > free:
        return f"it would need {size(nbytes)} of memory, and {size(free)} are free"
    return ""


def _free_memory() -> int | None:
    """Bytes that a new process can have without swapping; None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return None


def _load(path: str, mapped: bool) -> Verdict:
    """Load it here: in the child."""
    import warnings

    warnings.simplefilter("ignore")
    try:
        importlib.import_module("torch")
    except Exception as error:
        return Verdict(None, f"torch cannot be imported: {error}")
    try:
        _torch_load(path, mapped)
    except MemoryError:
        return Verdict(None, "it needs more memory than there is")
    except Exception as error:  # torch answers a file that it does not like with any exception there is
        text = str(error).strip()
        return Verdict(False, f"{type(error).__name__}: {_gist(text)}" if text else type(error).__name__)
    return Verdict(True)


def load_tensors(path: str) -> Any:
    """What torch or the safetensors library reads from a file, or a folder of shards, that sdviewer has written.

    Only a child process calls it; another one of `engine`'s, which builds a model, needs it too.
    """
    if os.path.isdir(path):  # noqa: PTH112  any text
        index = next(Path(path).glob("*.index.json"))
        names = dict.fromkeys(json.loads(index.read_bytes())["weight_map"].values())
        return {key: value for name in names for key, value in load_tensors(str(index.parent / name)).items()}
    with open(path, "rb") as file:  # noqa: PTH123
        start = file.read(9)
    if start[8:] == b"{":
        from safetensors.torch import load_file

        return load_file(path)
    return _torch_load(path, start.startswith(b"PK"))


def _torch_load(path: str, mapped: bool) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True, mmap=True if mapped else None)


def _gist(message: str) -> str:
    """The sentence of torch's long message that says why: its advice to load without the protection is left out."""
    _, found, detail = message.partition("WeightsUnpickler error: ")
    lines = [line.strip() for line in (detail if found else message).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Weights only load failed"):
        lines.pop(0)
    return lines[0].partition(" Please use ")[0]


def end_with_parent() -> None:
    """In a child: end when whoever asked, and holds the other end of `stdin`, is gone.

    A save that is stopped, or killed, keeps its bytes no longer than that.
    """

    def wait() -> None:
        os.read(0, 1)  # not sys.stdin, whose lock this thread would still hold when the interpreter ends
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """The child."""
    _, path, how = sys.argv
    end_with_parent()
    verdict = _load(path, how == "map")
    sys.stdout.write(json.dumps(verdict._asdict()) + "\n")


if __name__ == "__main__":
    main()

"""Somebody's model, built in a process of its own (`engine/model_child`): its keys, and whether it loads a file.

Law: only what a person named, and said to run, comes here; nothing that stands in a checkpoint or in a text does. The
process has a time limit, answers over a pipe of its own, and is killed with all that it started. No network is used by
the libraries that can be told so.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from sdviewer.core.key_table import KeyTable
from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.text import seconds, visible
from sdviewer.errors import OpenError
from sdviewer.formats.torch_check import environment_of_torch

TIMEOUT = 60.0
"""Seconds that building a model may take."""

MOST_ANSWERED = 256 << 20
"""Bytes of an answer: a million keys are 100 MiB."""

MOST_KEPT = 64 << 10
"""Bytes of what the model's code printed that are kept for people, those at the end."""

_BETWEEN_LOOKS = 0.05
_LAST_WORDS = 1.0

_REMEDIES = {
    "torch": "Install torch, or give a list of the model's keys.",
    "library": "Install it beside sdviewer, or give a list of the model's keys.",
    "import": "What it imports must be installed, or lie in its folder or the current one.",
    "attribute": "Name the class or the function after the colon.",
    "type": "Name a class of a torch.nn.Module, or a function that makes one.",
    "config": "Install a version that has it, or give a list of the model's keys.",
}


class ModelFailed(OpenError):
    """There is no model, or no answer of it; `details` is what its code printed, for people."""

    default_code = "model_failed"

    def __init__(self, message: str, *, path: str = "", remedy: str = "", code: str = "", details: str = "") -> None:
        super().__init__(message, path=path, remedy=remedy, code=code)
        self.details = details


class StrictLoad(NamedTuple):
    """What `load_state_dict(strict=True)` of a real model said of a file: `ok`, None where it was not tried.

    `message` is torch's own text, why the load did not come to an end, or why it was not tried.
    """

    ok: bool | None
    message: str


class Model:
    """A model that was built once: its class, its keys, and its process, which stays until `close` to load files."""

    def __init__(
        self, what: Mapping[str, Any], *, name: str, timeout: float = TIMEOUT, progress: Progress = no_progress
    ) -> None:
        """Build it and ask for its keys.

        Raises:
            ModelFailed: it cannot be built, or took too long (code `model_timeout`).
            Cancelled: from `progress`.
        """
        self._name, self._timeout = name, timeout
        if getattr(sys, "frozen", False) or find_spec("torch") is None:
            remedy = _REMEDIES["torch"]
            raise ModelFailed("torch is not there to build it", path=name, code="extra_needed", remedy=remedy)
        try:
            self._child = _Child()
        except OSError as error:
            raise ModelFailed(f"no process could be started for it ({error.strerror})", path=name) from None
        answer = self._ask({"what": what}, progress)
        if "stage" in answer:
            stage = str(answer["stage"])
            raise self._failed(
                _reason(answer),
                code="extra_needed" if stage in ("torch", "library") else "",
                remedy=_REMEDIES.get(stage, "Give a checkpoint of it or a list of its keys instead."),
            )
        try:
            self.model, self.table = str(answer["model"])[:400], _table(answer)
        except (KeyError, TypeError, ValueError):
            raise self._failed("its process gave an answer that is none") from None

    def load(self, path: str, steps: Sequence[str], progress: Progress = no_progress) -> StrictLoad:
        """Let it load, strictly, the state dict at `steps` of a file that sdviewer has written.

        Raises:
            Cancelled: from `progress`.
        """
        load = {"path": os.path.abspath(path), "steps": list(steps)}  # noqa: PTH100  any text
        try:
            answer = self._ask({"load": load}, progress)
        except ModelFailed as error:
            return StrictLoad(False, error.message)
        if "stage" in answer:
            return StrictLoad(None if answer["stage"] == "file" else False, _reason(answer))
        ok, message = answer.get("ok"), answer.get("message")
        if not isinstance(ok, bool) or not isinstance(message, str):
            return StrictLoad(False, "its process gave an answer that is none")
        return StrictLoad(ok, message)

    def close(self) -> None:
        """End its process, with all that it started."""
        self._child.end()

    def _ask(self, question: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """The answer; where there is none, the process is ended.

        Raises:
            ModelFailed: there is none, or none in time.
            Cancelled: from `progress`.
        """
        try:
            answer = self._child.answer(json.dumps(question).encode(), self._timeout, progress)
        except TimeoutError:
            remedy = "Allow it more time, or give a list of its keys."
            what = f"{'building' if 'what' in question else 'loading'} it took longer than {seconds(self._timeout)}"
            raise self._failed(what, code="model_timeout", remedy=remedy) from None
        except BaseException:
            self.close()
            raise
        if answer is None:
            self.close()
            raise self._failed(f"its process ended {self._child.how_it_ended()}", remedy=self._child.last_words())
        return answer

    def _failed(self, message: str, *, code: str = "", remedy: str = "") -> ModelFailed:
        """The error to raise, after the process was ended, so that all is there that it printed."""
        self.close()
        return ModelFailed(message, path=self._name, code=code, remedy=remedy, details=self._child.printed())


def _reason(answer: Mapping[str, Any]) -> str:
    return visible(str(answer.get("message", "")), 1000).rstrip(".")


def _table(answer: Mapping[str, Any]) -> KeyTable:
    """The answer as a table; the process ran somebody's code, so nothing of it is believed unseen."""
    keys, shapes, dtypes = answer["keys"], answer["shapes"], answer["dtypes"]
    places = range(len(keys))
    if not len(keys) == len(shapes) == len(dtypes) or not all(isinstance(key, str) for key in keys):
        raise ValueError
    if not all(at in places for some in [*answer["ties"], answer["not_tensors"]] for at in some):
        raise ValueError
    return KeyTable(
        tuple(keys),
        tuple([None if shape is None else tuple([int(size) for size in shape]) for shape in shapes]),
        tuple([str(dtype) for dtype in dtypes]),
        ties=tuple([tuple(some) for some in answer["ties"]]),
        not_tensors=frozenset(answer["not_tensors"]),
    )


class _Child:
    """The process, from its start to its end, and what came out of it."""

    def __init__(self) -> None:
        environment = environment_of_torch() | {
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "WANDB_MODE": "offline",
            "MPLBACKEND": "Agg",
            "PYTHONDONTWRITEBYTECODE": "1",  # nothing is written beside somebody's files
            "PYTHONUNBUFFERED": "1",
        }
        self._answers: SimpleQueue[bytes] = SimpleQueue()
        self._printed = bytearray()
        self._popen = subprocess.Popen(
            [sys.executable, "-P", "-m", "sdviewer.engine.model_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._hear_answers, self._hear_printed)]
        for thread in self._threads:
            thread.start()

    def answer(self, question: bytes, timeout: float, progress: Progress) -> Mapping[str, Any] | None:
        """Put a question and wait for the answer; None where the process ended, or said what is none.

        Raises:
            TimeoutError: it took longer than `timeout` seconds.
            Cancelled: from `progress`.
        """
        if self._popen.returncode is not None:
            return None
        deadline = time.monotonic() + timeout
        tell: Callable[[str], None] = getattr(progress, "printed", _to_nobody)
        told = b""
        threading.Thread(target=self._put, args=(question,), daemon=True).start()
        while True:
            try:
                line = self._answers.get(timeout=_BETWEEN_LOOKS)
                break
            except Empty:
                progress(0, 0)
                if (printed := bytes(self._printed)) != told:
                    told = printed
                    tell(self.printed())
                if time.monotonic() > deadline:
                    raise TimeoutError from None
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return answer if isinstance(answer, dict) else None

    def end(self) -> None:
        """End it, with all that it started in its session."""
        if self._popen.returncode is not None:
            return
        if sys.platform == "win32":
            self._popen.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):
            self._popen.stdin.close()
        for thread in self._threads:
            # What left the session may hold the pipe open; nobody waits for it.
            thread.join(_LAST_WORDS)

    def printed(self) -> str:
        """The end of what it printed, harmless for a terminal or a label."""
        lines = bytes(self._printed).decode("utf-8", "replace").splitlines()
        return "\n".join([visible(line.expandtabs(), MOST_KEPT) for line in lines])

    def last_words(self) -> str:
        """The last line that it printed, in a sentence."""
        lines = self.printed().split("\n")
        return f"It printed at last: {lines[-1][:200].rstrip('.')}." if lines[-1] else "It printed nothing."

    def how_it_ended(self) -> str:
        """By what, where it gave no answer."""
        status = self._popen.returncode
        return f"with signal {-status}" if status < 0 else "without an answer"

    def _put(self, question: bytes) -> None:
        """A process that does not read must not stop the one that asks."""
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._popen.stdin.write(len(question).to_bytes(8, "little") + question)
            self._popen.stdin.flush()

    def _hear_answers(self) -> None:
        assert self._popen.stdout is not None
        said = bytearray()
        with self._popen.stdout as stream:
            while len(said) <= MOST_ANSWERED and (piece := os.read(stream.fileno(), 1 << 16)):
                said += piece
                if piece.endswith(b"\n"):
                    self._answers.put(bytes(said))
                    said.clear()
        self._answers.put(b"")

    def _hear_printed(self) -> None:
        assert self._popen.stderr is not None
        with self._popen.stderr as stream:
            while piece := os.read(stream.fileno(), 1 << 16):
                self._printed += piece
                del self._printed[:-MOST_KEPT]


def _to_nobody(words: str) -> None:
    """Most who build a model show what it printed only where that fails."""

"""What is told of a request that failed: the body of a `failed` frame, and what the window says of one itself.

kind     the class of the error
code     that of docs/problems.md, "internal" where nobody foresaw it
message, remedy, path, key, details    text, "" where there is none
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Final, TypeAlias

from sdviewer.core import text
from sdviewer.errors import SDViewerError

Failure: TypeAlias = Mapping[str, str]

CANCELLED: Final[Failure] = {
    "kind": "Cancelled",
    "code": "cancelled",
    "message": "Cancelled",
    "remedy": "",
    "path": "",
    "key": "",
    "details": "",
}
DIED: Final[Failure] = {
    "kind": "WorkerDied",
    "code": "worker_died",
    "message": "the process that read the file ended",
    "remedy": "No edit is lost; try again. If it happens again, memory may be short.",
    "path": "",
    "key": "",
    "details": "",
}


def failure(error: SDViewerError) -> Failure:
    """An error as the body of a `failed` frame."""
    return {
        "kind": type(error).__name__,
        "code": error.code,
        "message": error.message,
        "remedy": error.remedy,
        "path": error.path,
        "key": error.key,
        "details": getattr(error, "details", ""),
    }


def unforeseen(error: Exception) -> Failure:
    """The same for what no room foresaw."""
    known = {MemoryError: "there is not enough memory for this", OSError: str(error)}
    message = next((words for kind, words in known.items() if isinstance(error, kind)), "sdviewer failed on this")
    return {
        "kind": type(error).__name__,
        "code": "internal",
        "message": message,
        "remedy": "Your file was not changed.",
        "path": "",
        "key": "",
        "details": traceback.format_exc(),
    }


def sentence(error: SDViewerError) -> str:
    """An error as a sentence of its own, with what can be done about it."""
    said = text.visible(f"{error.message}. {error.remedy}".strip(), 400)
    return said[:1].upper() + said[1:]

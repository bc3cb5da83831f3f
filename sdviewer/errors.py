"""Everything that can go wrong in a way a person should read about.

    SDViewerError
    ├── OpenError              a file that cannot be read                                (exit 3)
    │   ├── UnknownFormat      it is something else: named, with what to do about it
    │   ├── UnsupportedContainer  a checkpoint sdviewer does not read yet
    │   └── CorruptCheckpoint  it breaks its own format's rules
    ├── UsageError             the request itself is wrong, or a recipe is not one       (exit 2)
    ├── RepairError            a guard, a collision or an expectation of a recipe failed (exit 1)
    │   ├── KeyCollision
    │   └── NoMatch
    └── SaveError              the output could not be written or did not verify         (exit 4)
        └── SourceDamaged      what should be copied is not in the source

    Cancelled                  the user stopped it: no error                             (exit 5)

Each names the file, the cause and the remedy in words for a person; `code` is the stable word for programs. The codes
form a closed list in `docs/problems.md`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class SDViewerError(Exception):
    """A failure that is told in one line: `FILE: cause. remedy`.

    `path` names the file as the user named it ("" where there is none), `message` is the cause as a sentence without
    its final full stop, `remedy` a whole sentence or "", `code` one word of the closed list, `key` the state dict key
    it is about.
    """

    exit_code: ClassVar[int] = 3
    default_code: ClassVar[str] = "error"

    def __init__(self, message: str, *, path: str = "", remedy: str = "", code: str = "", key: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.remedy = remedy
        self.code = code or self.default_code
        self.key = key

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}" if self.path else self.message
        text = text if text.endswith((".", "!", "?")) else text + "."
        return f"{text} {self.remedy}" if self.remedy else text


class OpenError(SDViewerError):
    """The file cannot be read at all."""

    default_code = "unreadable"


class UnknownFormat(OpenError):
    """The file is not a checkpoint."""

    default_code = "unknown_format"


class UnsupportedContainer(OpenError):
    """A checkpoint of a kind that sdviewer does not read yet."""

    default_code = "unsupported_container"


class CorruptCheckpoint(OpenError):
    """The file breaks the rules of its own format."""

    default_code = "corrupt"


class UsageError(SDViewerError):
    """The request is wrong: an option, a recipe that is not one, an output that is an input."""

    exit_code = 2
    default_code = "usage"


class RepairError(SDViewerError):
    """A recipe that does not go through on this checkpoint; nothing is written."""

    exit_code = 1
    default_code = "recipe_failed"


class KeyCollision(RepairError):
    """Two keys would become one, or a key would become both a leaf and a branch."""

    default_code = "collision"


class NoMatch(RepairError):
    """A step, guard or pattern that must match something matches nothing."""

    default_code = "no_match"


class SaveError(SDViewerError):
    """The output could not be written, or did not verify when it was read back."""

    exit_code = 4
    default_code = "save_failed"


class SourceDamaged(SaveError):
    """Tensors should be copied whose bytes are not in the source; `storages` are the ids of those that are lost."""

    default_code = "source_damaged"

    def __init__(self, message: str, *, storages: Iterable[str] = (), path: str = "", remedy: str = "", key: str = ""):
        super().__init__(message, path=path, remedy=remedy, key=key)
        self.storages = frozenset(storages)


class Cancelled(Exception):
    """The user stopped the work; nothing is half done."""

    exit_code: ClassVar[int] = 5
